#include "runtime/program.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <limits>

#include "base/error.h"
#include "ops/op.h"
#include "runtime/work.h"

namespace dlcore {

struct Program::Step {
  BoundKernel kernel;
  NodeId node;
  size_t in, out;  // where its pointers begin in the context's tables
};

// One run's memory: the arena and, for every step, the pointers of its inputs and outputs.
struct Program::Context {
  Tensor arena;
  uint8_t* base = nullptr;
  void* workspace = nullptr;
  uint64_t bindings = 0;
  std::vector<const void*> in;
  std::vector<void*> out;
  std::vector<void*> inputs, outputs;
  struct Patch {
    bool is_out;
    Place::Kind kind;
    size_t slot;
    int64_t index;
  };
  std::vector<Patch> patches;  // the operands that are inputs or outputs of the program: other pointers at each run
};

namespace {

// Calls visit(place, is_output, slot) for every operand of every step, in the order of the pointer tables.
template <class Visit>
void visit_operands(const Graph& g, const Plan& plan, Visit visit) {
  size_t in = 0, out = 0;
  for (NodeId k : plan.order) {
    for (ValueId v : g.nodes[k].inputs) visit(plan.places[v], false, in++);
    for (ValueId v : g.nodes[k].outputs) visit(plan.places[v], true, out++);
  }
}

}  // namespace

Program::Program(Graph graph, const std::vector<std::string>* passes, const std::string& backend) {
  DLCORE_CHECK(graph.batch == 0, Value,
               "this graph holds for any number of rows: use with_batch(n) before planning it");
  verify(graph);
  graph_ = passes && passes->empty() ? std::move(graph) : optimize(std::move(graph), passes);
  plan_ = make_plan(graph_);
  size_t in = 0, out = 0;
  std::vector<const void*> constants(graph_.values.size());
  for (const Leaf& leaf : graph_.leaves)
    if (leaf.role == Role::Const) constants[leaf.value] = leaf.data.data();
  for (NodeId k : plan_.order) {
    const Node& n = graph_.nodes[k];
    KernelSpec spec{n.op, {}, {}, n.attrs};
    for (ValueId v : n.inputs) {
      spec.inputs.push_back(graph_.type(v));
      spec.constants.push_back(constants[v]);
    }
    for (ValueId v : n.outputs) spec.outputs.push_back(graph_.type(v));
    const bool view = get_op(n.op).flags & kView;
    if (!view) steps_.push_back({registry().bind(spec, backend), k, in, out});
    if (!view) workspace_ = std::max(workspace_, (steps_.back().kernel.workspace + 63) / 64 * 64);
    in += n.inputs.size();
    out += n.outputs.size();
  }
  for (const Leaf& leaf : graph_.leaves) {
    leaf_data_.push_back(leaf.data);
    if (leaf.role == Role::Input) input_types_.push_back(graph_.type(leaf.value));
  }
}

Program::~Program() = default;

std::vector<const Leaf*> Program::leaves(Role role) const {
  std::vector<const Leaf*> found;
  for (const Leaf& leaf : graph_.leaves)
    if (leaf.role == role) found.push_back(&leaf);
  return found;
}

std::vector<const Leaf*> Program::states() const {
  std::vector<const Leaf*> found;
  for (const Leaf& leaf : graph_.leaves)
    if (leaf.role == Role::Param || leaf.role == Role::State) found.push_back(&leaf);
  return found;
}

void Program::bind(const std::string& name, Tensor data) {
  for (size_t i = 0; i < graph_.leaves.size(); ++i) {
    const Leaf& leaf = graph_.leaves[i];
    if (leaf.name != name || (leaf.role != Role::Param && leaf.role != Role::State)) continue;
    DLCORE_CHECK(data.defined() && data.type() == graph_.type(leaf.value), Value, "'", name, "' should be ",
                 to_string(graph_.type(leaf.value)), ", got ", data.defined() ? to_string(data.type()) : "nothing");
    const std::lock_guard lock(mutex_);
    leaf_data_[i] = std::move(data);
    ++bindings_;
    return;
  }
  fail(ErrorKind::Key, "the program has no parameter or state named '", name, "'");
}

void Program::check(const std::vector<Tensor>& inputs) const {
  DLCORE_CHECK(inputs.size() == input_types_.size(), Value, "the program takes ", input_types_.size(), " inputs, got ",
               inputs.size());
  for (size_t i = 0; i < inputs.size(); ++i)
    DLCORE_CHECK(inputs[i].type() == input_types_[i], Value, "input '", leaves(Role::Input)[i]->name, "' should be ",
                 to_string(input_types_[i]), ", got ", to_string(inputs[i].type()));
  for (size_t i = 0; i < leaf_data_.size(); ++i)
    DLCORE_CHECK(graph_.leaves[i].role == Role::Input || leaf_data_[i].defined(), Value, "'", graph_.leaves[i].name,
                 "' has no memory yet: bind it before the program runs");
}

std::unique_ptr<Program::Context> Program::take_context() {
  {
    const std::lock_guard lock(mutex_);
    if (!free_.empty()) {
      auto c = std::move(free_.back());
      free_.pop_back();
      return c;
    }
  }
  auto c = std::make_unique<Context>();
  c->arena = Tensor({DType::U8, {static_cast<int64_t>(arena_bytes())}});
  c->base = c->arena.ptr<uint8_t>();
  c->workspace = c->base + plan_.arena_bytes;
  c->bindings = std::numeric_limits<uint64_t>::max();
  c->inputs.resize(input_types_.size());
  c->outputs.resize(graph_.outputs.size());
  size_t in = 0, out = 0;
  visit_operands(graph_, plan_, [&](const Place&, bool is_out, size_t) { ++(is_out ? out : in); });
  c->in.resize(in);
  c->out.resize(out);
  return c;
}

std::vector<Tensor> Program::prepare(Context& c, const std::vector<Tensor>& inputs) const {
  std::vector<Tensor> outputs;
  outputs.reserve(graph_.outputs.size());
  for (const Output& o : graph_.outputs) outputs.emplace_back(graph_.type(o.value));
  for (size_t i = 0; i < inputs.size(); ++i) c.inputs[i] = inputs[i].data();
  for (size_t i = 0; i < outputs.size(); ++i) c.outputs[i] = outputs[i].data();
  point(c);
  return outputs;
}

void Program::point(Context& c) const {
  if (c.bindings != bindings_) {
    c.bindings = bindings_;
    c.patches.clear();
    visit_operands(graph_, plan_, [&](const Place& p, bool is_out, size_t slot) {
      void* pointer = nullptr;
      if (p.kind == Place::Input || p.kind == Place::Output)
        c.patches.push_back({is_out, p.kind, slot, p.index});
      else
        pointer = p.kind == Place::Arena ? c.base + p.index : leaf_data_[p.index].data();
      if (is_out)
        c.out[slot] = pointer;
      else
        c.in[slot] = pointer;
    });
  }
  for (const auto& p : c.patches) {
    void* pointer = (p.kind == Place::Input ? c.inputs : c.outputs)[p.index];
    if (p.is_out)
      c.out[p.slot] = pointer;
    else
      c.in[p.slot] = pointer;
  }
}

void Program::execute(const Context& c, size_t i) const {
  const Step& s = steps_[i];
  try {
    s.kernel.run({c.in.data() + s.in, c.out.data() + s.out, c.workspace});
  } catch (const Error& e) {
    const std::string& where = graph_.nodes[s.node].where;
    if (where.empty()) throw;
    throw Error(e.kind(), format(e.what(), " (in ", where, ")"));
  }
}

void Program::finish(Context& c) const {
  const auto resolve = [&](const Place& p) -> void* {
    switch (p.kind) {
      case Place::Input:
        return c.inputs[p.index];
      case Place::Output:
        return c.outputs[p.index];
      case Place::Arena:
        return c.base + p.index;
      default:
        return leaf_data_[p.index].data();
    }
  };
  for (const Copy& copy : plan_.copies) std::memcpy(resolve(copy.to), resolve(copy.from), copy.bytes);
}

std::vector<Tensor> Program::run(const std::vector<Tensor>& inputs) {
  check(inputs);
  std::unique_lock<std::mutex> alone(run_mutex_, std::defer_lock);
  if (!graph_.updates.empty()) alone.lock();
  auto c = take_context();
  std::vector<Tensor> outputs = prepare(*c, inputs);
  for (size_t i = 0; i < steps_.size(); ++i) execute(*c, i);
  finish(*c);
  const std::lock_guard lock(mutex_);
  free_.push_back(std::move(c));
  return outputs;
}

std::vector<Tensor> Program::run_batches(const std::vector<Tensor>& columns, const Tensor& order, int64_t first,
                                         int64_t count, const std::vector<Tensor>& scalars, double seconds) {
  DLCORE_CHECK(!columns.empty() && columns.size() + scalars.size() == input_types_.size(), Value, "the program takes ",
               input_types_.size(), " inputs, got ", columns.size(), " columns and ", scalars.size(), " scalars");
  DLCORE_CHECK(count >= 1 && first >= 0, Value, "run_batches needs at least one batch");
  std::vector<Tensor> inputs;
  std::vector<size_t> row_bytes;
  for (size_t i = 0; i < columns.size(); ++i) {
    const TensorType& want = input_types_[i];
    const Shape& have = columns[i].shape();
    DLCORE_CHECK(columns[i].dtype() == want.dtype && !have.empty() && have.size() == want.shape.size() &&
                     std::equal(have.begin() + 1, have.end(), want.shape.begin() + 1) &&
                     columns[i].shape()[0] == columns[0].shape()[0],
                 Value, "column ", i, " should have rows of ", to_string(want), ", got ", to_string(columns[i].type()));
    inputs.emplace_back(want);
    row_bytes.push_back(want.shape[0] ? inputs.back().nbytes() / static_cast<size_t>(want.shape[0]) : 0);
  }
  const int64_t batch = input_types_[0].shape[0], rows = columns[0].shape()[0];
  for (size_t i = 0; i < columns.size(); ++i)
    DLCORE_CHECK(input_types_[i].shape[0] == batch, Value, "the columns' batches should have equal sizes");
  for (size_t i = 0; i < scalars.size(); ++i) {
    Shape want = input_types_[columns.size() + i].shape;
    want.insert(want.begin(), count);
    DLCORE_CHECK(scalars[i].dtype() == input_types_[columns.size() + i].dtype && scalars[i].shape() == want, Value,
                 "scalar ", i, " should have a value for each of ", count, " steps, got ",
                 to_string(scalars[i].type()));
    inputs.push_back(Tensor(input_types_[columns.size() + i]));
  }
  DLCORE_CHECK(order.dtype() == DType::I64 && order.shape().size() == 1 && batch >= 1 &&
                   first <= order.shape()[0] / batch - count,
               Value, "the order has ", numel(order.shape()), " rows, too few for ", count, " batches of ", batch,
               " from number ", first);
  const int64_t* picked = order.ptr<const int64_t>() + first * batch;
  for (int64_t i = 0; i < count * batch; ++i)
    DLCORE_CHECK(picked[i] >= 0 && picked[i] < rows, Index, "row ", picked[i], " is outside [0, ", rows, ")");
  check(inputs);

  std::unique_lock<std::mutex> alone(run_mutex_, std::defer_lock);
  if (!graph_.updates.empty()) alone.lock();
  auto c = take_context();
  prepare(*c, inputs);
  std::vector<Tensor> outputs;
  for (const Output& o : graph_.outputs) {
    TensorType type = graph_.type(o.value);
    type.shape.insert(type.shape.begin(), count);
    outputs.emplace_back(type);
  }
  const auto slice = [](const Tensor& t, int64_t k) {
    return t.ptr<uint8_t>() + t.nbytes() / static_cast<size_t>(t.shape()[0]) * static_cast<size_t>(k);
  };
  const auto start = std::chrono::steady_clock::now();
  int64_t done = 0;
  do {
    for (size_t i = 0; i < columns.size(); ++i) {
      uint8_t* to = inputs[i].ptr<uint8_t>();
      const uint8_t* from = columns[i].ptr<const uint8_t>();
      for (int64_t r = 0; r < batch; ++r)
        std::memcpy(to + static_cast<size_t>(r) * row_bytes[i], from + static_cast<size_t>(picked[r]) * row_bytes[i],
                    row_bytes[i]);
    }
    picked += batch;
    for (size_t i = 0; i < scalars.size(); ++i) c->inputs[columns.size() + i] = slice(scalars[i], done);
    for (size_t i = 0; i < outputs.size(); ++i) c->outputs[i] = slice(outputs[i], done);
    point(*c);
    for (size_t i = 0; i < steps_.size(); ++i) execute(*c, i);
    finish(*c);
    ++done;
  } while (done < count && std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() < seconds);
  {
    const std::lock_guard lock(mutex_);
    free_.push_back(std::move(c));
  }
  for (Tensor& t : outputs) {
    Shape shape = t.shape();
    shape[0] = done;
    t = Tensor({t.dtype(), std::move(shape)}, t.buffer());
  }
  return outputs;
}

std::vector<ProfileRow> Program::profile(const std::vector<Tensor>& inputs, int repeat) {
  DLCORE_CHECK(repeat >= 1, Value, "profile: repeat should be at least 1, got ", repeat);
  check(inputs);
  const std::lock_guard alone(run_mutex_);
  auto c = take_context();
  // States are put back afterwards: looking must not train.
  std::vector<std::pair<Tensor, Tensor>> saved;
  for (const Update& u : graph_.updates) {
    const Tensor& data = leaf_data_[graph_.leaf(u.state) - graph_.leaves.data()];
    saved.emplace_back(data, data.clone());
  }
  const std::vector<Tensor> outputs = prepare(*c, inputs);
  std::vector<double> best(steps_.size(), std::numeric_limits<double>::infinity());
  for (int r = 0; r < repeat; ++r) {
    for (size_t i = 0; i < steps_.size(); ++i) {
      const auto start = std::chrono::steady_clock::now();
      execute(*c, i);
      const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - start;
      best[i] = std::min(best[i], took.count());
    }
    finish(*c);
    for (auto& [data, old] : saved) data.copy_from(old);
  }
  std::vector<ProfileRow> rows;
  for (size_t i = 0; i < steps_.size(); ++i) {
    const Node& n = graph_.nodes[steps_[i].node];
    int64_t bytes = 0;
    for (ValueId v : n.inputs) bytes += byte_size(graph_.type(v));
    for (ValueId v : n.outputs) bytes += byte_size(graph_.type(v));
    rows.push_back({n.op, n.where, std::string(steps_[i].kernel.backend), best[i], graph_.type(n.outputs[0]), bytes,
                    operations(graph_, n)});
  }
  return rows;
}

std::vector<MemoryRow> Program::memory() const {
  const std::vector<int64_t> live = live_bytes(graph_, plan_);
  std::vector<MemoryRow> rows;
  for (size_t i = 0; i < live.size(); ++i) {
    const Node& n = graph_.nodes[plan_.order[i]];
    rows.push_back({n.op, n.where, live[i]});
  }
  return rows;
}

}  // namespace dlcore
