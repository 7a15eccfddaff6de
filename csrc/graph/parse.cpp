// Reads the text form. The text may come from a file made by anyone: every number, name and length is checked.
#include "graph/parse.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <set>
#include <unordered_map>

#include "base/error.h"

namespace dlcore {

namespace {

constexpr size_t kMaxText = 16u << 20;
constexpr size_t kMaxNodes = 1000000;
constexpr size_t kMaxInputs = 65536;

bool is_name_char(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '.';
}

class Parser {
 public:
  Parser(std::string_view text, const std::map<std::string, Tensor>& constants, std::vector<int>& lines)
      : text_(text), constants_(constants), lines_(lines) {}

  Graph run() {
    DLCORE_CHECK(text_.size() <= kMaxText, Value, "the graph's text has ", text_.size(), " bytes, the limit is ",
                 kMaxText);
    try {
      header();
      while (pos_ < text_.size()) {
        skip_spaces();
        if (!at_end_of_line()) statement();
        end_of_line();
      }
    } catch (const Error& e) {
      fail(ErrorKind::Value, "line ", line_, ": ", e.what());
    }
    return std::move(g_);
  }

 private:
  // Characters.
  bool at_end_of_line() const { return pos_ >= text_.size() || text_[pos_] == '\n'; }
  char peek() const { return at_end_of_line() ? '\0' : text_[pos_]; }
  void skip_spaces() {
    while (peek() == ' ') ++pos_;
  }
  bool accept(char c) {
    skip_spaces();
    if (at_end_of_line() || text_[pos_] != c) return false;
    ++pos_;
    return true;
  }
  std::string found() const {
    if (at_end_of_line()) return "the end of the line";
    size_t end = std::min(text_.find('\n', pos_), std::min(pos_ + 20, text_.size()));
    while (end > pos_ + 1 && end < text_.size() && (text_[end] & 0xC0) == 0x80) --end;  // not inside a UTF-8 character
    return "'" + std::string(text_.substr(pos_, end - pos_)) + "'";
  }
  void expect(char c) { DLCORE_CHECK(accept(c), Value, "expected '", c, "', found ", found()); }
  void end_of_line() {
    skip_spaces();
    DLCORE_CHECK(at_end_of_line(), Value, "expected the end of the line, found ", found());
    if (pos_ < text_.size()) {
      ++pos_;
      ++line_;
    }
  }

  // Words.
  std::string_view name(const char* what) {
    skip_spaces();
    const size_t start = pos_;
    while (is_name_char(peek())) ++pos_;
    DLCORE_CHECK(pos_ > start, Value, "expected ", what, ", found ", found());
    return text_.substr(start, pos_ - start);
  }
  std::string quoted() {
    expect('"');
    std::string s;
    while (true) {
      DLCORE_CHECK(!at_end_of_line(), Value, "text in quotes has no end");
      char c = text_[pos_++];
      if (c == '"') return s;
      if (c == '\\') {
        c = peek();
        DLCORE_CHECK(c == '"' || c == '\\' || c == 'n', Value, "unknown escape in text: \\", found());
        ++pos_;
        if (c == 'n') c = '\n';
      }
      s += c;
    }
  }
  int64_t integer(const char* what) {
    skip_spaces();
    int64_t n = 0;
    const char* first = text_.data() + pos_;
    const auto [end, error] = std::from_chars(first, text_.data() + text_.size(), n);
    DLCORE_CHECK(error != std::errc::invalid_argument, Value, "expected ", what, ", found ", found());
    DLCORE_CHECK(error == std::errc{}, Value, what, " is out of range: ", found());
    pos_ += static_cast<size_t>(end - first);
    return n;
  }
  // 12, N or 4*N.
  int64_t size_or_integer(const char* what) {
    skip_spaces();
    int64_t n = 1;
    if (peek() != 'N') {
      n = integer(what);
      if (peek() != '*') return n;
      ++pos_;
      DLCORE_CHECK(peek() == 'N', Value, "expected N after '*', found ", found());
      DLCORE_CHECK(n > 0, Value, "N needs a positive factor, found ", n);
    }
    ++pos_;
    DLCORE_CHECK(g_.batch != 0, Value, "a size N stands in a graph without 'batch'");
    DLCORE_CHECK(!__builtin_mul_overflow(n, g_.batch, &n), Value, what, " is out of range");
    return n;
  }
  TensorType type() {
    TensorType t;
    t.dtype = parse_dtype(name("a dtype"));
    expect('[');
    if (!accept(']')) {
      do {
        DLCORE_CHECK(t.shape.size() < kMaxRank, Value, "more than ", kMaxRank, " dimensions");
        const int64_t d = size_or_integer("a size");
        DLCORE_CHECK(d >= 0, Value, "negative size ", d);
        t.shape.push_back(d);
      } while (accept(','));
      expect(']');
    }
    byte_size(t);
    return t;
  }

  // Values.
  int64_t id() {
    expect('%');
    const int64_t n = integer("a value's number");
    DLCORE_CHECK(n >= 0, Value, "a value's number is negative: %", n);
    return n;
  }
  ValueId use() {
    const int64_t n = id();
    const auto it = ids_.find(n);
    DLCORE_CHECK(it != ids_.end(), Value, "%", n, " is used before it is defined");
    return it->second;
  }

  // Attributes.
  AttrValue number() {
    const size_t start = pos_;
    while (is_name_char(peek()) || peek() == '-' || peek() == '+') ++pos_;
    const std::string_view s = text_.substr(start, pos_ - start);
    DLCORE_CHECK(!s.empty(), Value, "expected an attribute's value, found ", found());
    const bool negative = s[0] == '-';
    const std::string_view digits = negative ? s.substr(1) : s;
    if (digits == "nan" || digits == "inf") {
      const double x = digits == "nan" ? std::numeric_limits<double>::quiet_NaN() : HUGE_VAL;
      return std::copysign(x, negative ? -1.0 : 1.0);
    }
    const char* end = s.data() + s.size();
    if (s.find_first_of(".e") == std::string_view::npos) {
      int64_t n = 0;
      const auto r = std::from_chars(s.data(), end, n);
      DLCORE_CHECK(r.ec == std::errc{} && r.ptr == end, Value, "not an integer in range: ", s);
      return n;
    }
    double x = 0;
    const auto r = std::from_chars(s.data(), end, x);
    DLCORE_CHECK(r.ec == std::errc{} && r.ptr == end && std::isfinite(x), Value, "not a number in range: ", s);
    return x;
  }
  AttrValue attr_value() {
    skip_spaces();
    if (peek() == '"') return quoted();
    if (!accept('[')) return number();
    IntList list;
    if (accept(']')) return list;
    do list.push_back(size_or_integer("an integer"));
    while (accept(','));
    expect(']');
    return list;
  }
  Attrs attrs() {
    Attrs attrs;
    if (!accept('{') || accept('}')) return attrs;
    do {
      const std::string_view key = name("an attribute's name");
      DLCORE_CHECK(!attrs.has(key), Value, "attribute '", key, "' stands twice");
      expect('=');
      attrs.set(key, attr_value());
    } while (accept(','));
    expect('}');
    return attrs;
  }

  // Lines.
  void header() {
    const bool good = name("'dlcore 1'") == "dlcore";
    DLCORE_CHECK(good, Value, "expected 'dlcore 1'");
    const int64_t version = integer("a version");
    DLCORE_CHECK(version == 1, Value, "the text has version ", version, ", this library reads version 1");
    end_of_line();
  }

  void statement() {
    if (peek() == '%') return definition();
    const std::string_view word = name("a value, 'output' or 'update'");
    if (word == "output") {
      std::string label = quoted();
      g_.outputs.push_back({std::move(label), use()});
    } else if (word == "update") {
      const ValueId state = use();
      expect('=');
      g_.updates.push_back({state, use()});
    } else if (word == "batch") {
      DLCORE_CHECK(g_.values.empty() && g_.batch == 0, Value, "'batch' belongs on the second line, once");
      g_.batch = integer("the number that stands for N");
      DLCORE_CHECK(g_.batch > 1 && g_.batch < (int64_t{1} << 31), Value, "the number that stands for N is ", g_.batch);
    } else {
      fail(ErrorKind::Value, "expected a value, 'output' or 'update', found '", word, "'");
    }
  }

  void definition() {
    std::vector<int64_t> numbers;
    std::vector<TensorType> types;
    do {
      numbers.push_back(id());
      expect(':');
      types.push_back(type());
    } while (accept(','));
    expect('=');
    const std::string_view word = name("an op or a role");
    const auto first = static_cast<ValueId>(g_.values.size());
    if (accept('('))
      node(word, std::move(types));
    else
      leaf(word, std::move(types));
    for (size_t i = 0; i < numbers.size(); ++i)  // only now: a node must not use its own outputs
      DLCORE_CHECK(ids_.emplace(numbers[i], first + static_cast<ValueId>(i)).second, Value, "%", numbers[i],
                   " is defined twice");
  }

  void node(std::string_view op, std::vector<TensorType> types) {
    DLCORE_CHECK(g_.nodes.size() < kMaxNodes, Value, "more than ", kMaxNodes, " nodes");
    Node node;
    node.op = op;
    if (!accept(')')) {
      do {
        DLCORE_CHECK(node.inputs.size() < kMaxInputs, Value, "[", op, "] has more than ", kMaxInputs, " inputs");
        node.inputs.push_back(use());
      } while (accept(','));
      expect(')');
    }
    node.attrs = attrs();
    if (accept('@')) node.where = quoted();
    g_.add_node(std::move(node), std::move(types));
    lines_.push_back(line_);
  }

  void leaf(std::string_view role_name, std::vector<TensorType> types) {
    Role role = Role::Input;
    bool known = false;
    for (Role r : {Role::Input, Role::Param, Role::State, Role::Const})
      if (name_of(r) == role_name) {
        role = r;
        known = true;
      }
    DLCORE_CHECK(known, Value, "expected input, param, state, const or an op with its inputs, found '", role_name, "'");
    DLCORE_CHECK(types.size() == 1, Value, "a leaf defines one value, not ", types.size());
    std::string label = quoted();
    DLCORE_CHECK(!label.empty(), Value, "a leaf needs a name");
    DLCORE_CHECK(names_.insert(label).second, Value, "two leaves have the name \"", label, "\"");
    Tensor data;
    if (role == Role::Const) {
      const auto it = constants_.find(label);
      DLCORE_CHECK(it != constants_.end() && it->second.defined(), Value, "the data of constant \"", label,
                   "\" is missing");
      data = it->second;
      DLCORE_CHECK(data.type() == types[0], Value, "constant \"", label, "\" is stated as ", to_string(types[0]),
                   ", its data is ", to_string(data.type()));
    }
    g_.leaves.push_back({role, std::move(label), static_cast<ValueId>(g_.values.size()), std::move(data)});
    g_.values.push_back({std::move(types[0]), kNone});
  }

  std::string_view text_;
  const std::map<std::string, Tensor>& constants_;
  std::vector<int>& lines_;
  size_t pos_ = 0;
  int line_ = 1;
  Graph g_;
  std::unordered_map<int64_t, ValueId> ids_;
  std::set<std::string> names_;
};

}  // namespace

Graph parse_syntax(const std::string& text, const std::map<std::string, Tensor>& constants, std::vector<int>& lines) {
  return Parser(text, constants, lines).run();
}

}  // namespace dlcore
