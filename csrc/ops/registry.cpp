#include <map>
#include <mutex>
#include <shared_mutex>

#include "base/error.h"
#include "ops/op.h"

namespace dlcore {

void register_elementwise_ops();
void register_shape_ops();
void register_source_ops();
void register_random_ops();
void register_reduce_ops();
void register_contract_ops();
void register_conv_ops();
void register_pool_ops();
void register_softmax_ops();
void register_norm_ops();
void register_group_norm_ops();
void register_attention_ops();
void register_attention_strided_ops();
void register_rnn_ops();
void register_ctc_ops();
void register_index_ops();
void register_optim_ops();
void register_fused_ops();

namespace {

constexpr void (*kFamilies[])() = {
    register_elementwise_ops,
    register_shape_ops,
    register_source_ops,
    register_random_ops,
    register_reduce_ops,
    register_contract_ops,
    register_conv_ops,
    register_pool_ops,
    register_softmax_ops,
    register_norm_ops,
    register_group_norm_ops,
    register_attention_ops,
    register_attention_strided_ops,
    register_rnn_ops,
    register_ctc_ops,
    register_index_ops,
    register_optim_ops,
    register_fused_ops,
};

struct Table {
  std::shared_mutex mutex;
  std::map<std::string_view, OpDef> ops;  // a map: pointers to its elements stay good
};

Table& table() {
  static Table* const t = new Table;  // never destroyed: threads may outlive static destructors
  return *t;
}

Table& filled_table() {
  static std::once_flag once;
  std::call_once(once, [] {
    for (auto family : kFamilies) family();
  });
  return table();
}

std::string plural(int n) { return format(n, n == 1 ? " input" : " inputs"); }

void check_arity(const OpDef& def, size_t count) {
  const auto n = static_cast<int64_t>(count);
  if (n >= def.min_inputs && (def.max_inputs < 0 || n <= def.max_inputs)) return;
  const std::string want = def.max_inputs == def.min_inputs ? plural(def.min_inputs)
                           : def.max_inputs < 0             ? "at least " + plural(def.min_inputs)
                                                            : format(def.min_inputs, " to ", plural(def.max_inputs));
  fail(ErrorKind::Value, "[", def.name, "] takes ", want, ", got ", n);
}

}  // namespace

void register_op(OpDef def) {
  Table& t = table();
  std::unique_lock lock(t.mutex);
  const std::string_view name = def.name;
  const bool fresh = t.ops.emplace(name, std::move(def)).second;
  DLCORE_CHECK(fresh, Value, "op '", name, "' is registered already");
}

const OpDef* find_op(std::string_view name) {
  Table& t = filled_table();
  std::shared_lock lock(t.mutex);
  const auto it = t.ops.find(name);
  return it == t.ops.end() ? nullptr : &it->second;
}

const OpDef& get_op(std::string_view name) {
  const OpDef* def = find_op(name);
  DLCORE_CHECK(def, Key, "there is no op named '", name, "'");
  return *def;
}

std::vector<const OpDef*> all_ops() {
  Table& t = filled_table();
  std::shared_lock lock(t.mutex);
  std::vector<const OpDef*> ops;
  for (const auto& [name, def] : t.ops) ops.push_back(&def);
  return ops;
}

Types infer_types(const OpDef& def, std::span<const TensorType> inputs, const Attrs& attrs) {
  check_arity(def, inputs.size());
  return def.infer(inputs, attrs);
}

std::vector<ValueId> emit(Graph& g, std::string_view op, std::vector<ValueId> inputs, Attrs attrs, std::string where) {
  try {
    const OpDef& def = get_op(op);
    Types types;
    types.reserve(inputs.size());
    for (ValueId v : inputs) {
      DLCORE_CHECK(v >= 0 && static_cast<size_t>(v) < g.values.size(), Value, "[", op, "] there is no value number ", v,
                   " in the graph");
      types.push_back(g.type(v));
    }
    Types outputs = infer_types(def, types, attrs);
    return g.add_node(Node{std::string(op), std::move(inputs), {}, std::move(attrs), where}, std::move(outputs));
  } catch (const Error& e) {
    if (where.empty()) throw;
    fail(e.kind(), e.what(), " (in ", where, ")");
  }
}

}  // namespace dlcore
