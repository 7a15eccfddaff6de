// Attributes of a node: a small sorted map from name to integer, real, text or list of integers.
// Booleans are the integers 0 and 1; a dtype is its name.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace dlcore {

using IntList = std::vector<int64_t>;
using AttrValue = std::variant<int64_t, double, std::string, IntList>;

class Attrs {
 public:
  Attrs() = default;
  Attrs(std::initializer_list<std::pair<std::string, AttrValue>> items) {
    for (const auto& [name, value] : items) set(name, value);
  }

  void set(std::string_view name, AttrValue value);
  bool has(std::string_view name) const { return find(name) != nullptr; }
  const AttrValue* find(std::string_view name) const;  // nullptr when absent

  // Required attribute: throws Error(Value) when it is absent or of another kind. `real` also takes an integer.
  int64_t integer(std::string_view name) const;
  double real(std::string_view name) const;
  const std::string& text(std::string_view name) const;
  const IntList& ints(std::string_view name) const;
  // Optional attribute.
  int64_t integer_or(std::string_view name, int64_t fallback) const { return has(name) ? integer(name) : fallback; }
  double real_or(std::string_view name, double fallback) const { return has(name) ? real(name) : fallback; }
  std::string text_or(std::string_view name, std::string fallback) const { return has(name) ? text(name) : fallback; }

  bool empty() const { return items_.empty(); }
  auto begin() const { return items_.begin(); }
  auto end() const { return items_.end(); }
  bool operator==(const Attrs&) const = default;  // note: NaN differs from itself, as everywhere

 private:
  std::vector<std::pair<std::string, AttrValue>> items_;  // sorted by name
};

std::string to_string(
    const Attrs& attrs);  // {axes=[0,1], eps=1e-05, layout="nhwc"}; reals round-trip and are told from integers

std::string quote(const std::string& text);  // in quotation marks; quotes, backslashes and line ends escaped

}  // namespace dlcore
