// The text form: leaves, nodes, outputs, updates, one a line; values are numbered in the order they appear.
#include <sstream>

#include "graph/graph.h"

namespace dlcore {

namespace {

class Printer {
 public:
  explicit Printer(const Graph& g) : g_(g), number_(g.values.size(), -1) {}

  std::string run() {
    out_ << "dlcore 1\n";
    if (g_.batch != 0) out_ << "batch " << g_.batch << "\n";
    for (const Leaf& leaf : g_.leaves) {
      define(leaf.value);
      out_ << " = " << name_of(leaf.role) << " " << quote(leaf.name) << "\n";
    }
    for (const Node& node : g_.nodes) {
      for (size_t i = 0; i < node.outputs.size(); ++i) {
        if (i) out_ << ", ";
        define(node.outputs[i]);
      }
      out_ << " = " << node.op << "(";
      for (size_t i = 0; i < node.inputs.size(); ++i) out_ << (i ? ", " : "") << use(node.inputs[i]);
      out_ << ")";
      if (!node.attrs.empty()) attrs(node.attrs);
      if (!node.where.empty()) out_ << " @" << quote(node.where);
      out_ << "\n";
    }
    for (const Output& o : g_.outputs) out_ << "output " << quote(o.name) << " " << use(o.value) << "\n";
    for (const Update& u : g_.updates) out_ << "update " << use(u.state) << " = " << use(u.value) << "\n";
    return out_.str();
  }

 private:
  std::string size(int64_t d) const {
    if (g_.batch == 0 || d <= 0 || d % g_.batch != 0) return std::to_string(d);
    return d == g_.batch ? "N" : std::to_string(d / g_.batch) + "*N";
  }

  std::string sizes(const std::vector<int64_t>& list) const {
    std::string s = "[";
    for (size_t i = 0; i < list.size(); ++i) s += (i ? "," : "") + size(list[i]);
    return s + "]";
  }

  void define(ValueId v) {
    number_[static_cast<size_t>(v)] = next_;
    const TensorType& type = g_.type(v);
    out_ << "%" << next_++ << ": " << name_of(type.dtype) << sizes(type.shape);
  }

  std::string use(ValueId v) const {
    const bool known = v >= 0 && static_cast<size_t>(v) < number_.size() && number_[static_cast<size_t>(v)] >= 0;
    return known ? "%" + std::to_string(number_[static_cast<size_t>(v)]) : "%?";  // broken graphs must print, too
  }

  void attrs(const Attrs& attrs) {
    out_ << " {";
    bool first = true;
    for (const auto& [name, value] : attrs) {
      if (!first) out_ << ", ";
      first = false;
      if (const IntList* list = std::get_if<IntList>(&value)) {
        out_ << name << "=" << sizes(*list);
      } else {
        const std::string one = to_string(Attrs{{name, value}});
        out_ << std::string_view(one).substr(1, one.size() - 2);
      }
    }
    out_ << "}";
  }

  const Graph& g_;
  std::vector<int64_t> number_;
  int64_t next_ = 0;
  std::ostringstream out_;
};

}  // namespace

std::string print(const Graph& graph) { return Printer(graph).run(); }

}  // namespace dlcore
