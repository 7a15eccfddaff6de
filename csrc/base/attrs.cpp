#include "base/attrs.h"

#include <algorithm>
#include <charconv>

#include "base/error.h"

namespace dlcore {

std::string quote(const std::string& s) {
  std::string out = "\"";
  for (char c : s) {
    if (c == '"' || c == '\\') out += '\\';
    if (c == '\n')
      out += "\\n";
    else
      out += c;
  }
  return out + '"';
}

namespace {

std::string print_real(double value) {
  char buffer[40];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value).ptr;  // shortest form that round-trips
  std::string s(buffer, end);
  if (s.find_first_of(".einf") == std::string::npos) s += ".0";
  return s;
}

struct Print {
  std::string operator()(int64_t v) const { return std::to_string(v); }
  std::string operator()(double v) const { return print_real(v); }
  std::string operator()(const std::string& v) const { return quote(v); }
  std::string operator()(const IntList& v) const {
    std::string s = "[";
    for (size_t i = 0; i < v.size(); ++i) s += (i ? "," : "") + std::to_string(v[i]);
    return s + "]";
  }
};

template <class T>
const T& get(const Attrs& attrs, std::string_view name, const char* kind) {
  const AttrValue* v = attrs.find(name);
  DLCORE_CHECK(v, Value, "attribute '", name, "' is missing");
  const T* t = std::get_if<T>(v);
  DLCORE_CHECK(t, Value, "attribute '", name, "' should be ", kind, ", got ", std::visit(Print{}, *v));
  return *t;
}

}  // namespace

void Attrs::set(std::string_view name, AttrValue value) {
  auto it = std::lower_bound(items_.begin(), items_.end(), name, [](const auto& a, auto n) { return a.first < n; });
  if (it != items_.end() && it->first == name)
    it->second = std::move(value);
  else
    items_.emplace(it, std::string(name), std::move(value));
}

const AttrValue* Attrs::find(std::string_view name) const {
  for (const auto& item : items_)
    if (item.first == name) return &item.second;
  return nullptr;
}

int64_t Attrs::integer(std::string_view name) const { return get<int64_t>(*this, name, "an integer"); }
double Attrs::real(std::string_view name) const {
  if (const AttrValue* v = find(name))
    if (const int64_t* i = std::get_if<int64_t>(v)) return static_cast<double>(*i);
  return get<double>(*this, name, "a real number");
}
const std::string& Attrs::text(std::string_view name) const { return get<std::string>(*this, name, "text"); }
const IntList& Attrs::ints(std::string_view name) const { return get<IntList>(*this, name, "a list of integers"); }

std::string to_string(const Attrs& attrs) {
  std::string s = "{";
  for (const auto& [name, value] : attrs) s += (s.size() > 1 ? ", " : "") + name + "=" + std::visit(Print{}, value);
  return s + "}";
}

}  // namespace dlcore
