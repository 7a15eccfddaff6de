// A graph compiled for this machine: kernels bound over one planned arena, run by a loop with no lookup in it.
#pragma once
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "graph/graph.h"
#include "kernels/registry.h"
#include "passes/plan.h"

namespace dlcore {

struct ProfileRow {
  std::string op, where, backend;
  double milliseconds;  // best of the repeats
  TensorType type;      // of the first output
  int64_t bytes;        // read and written
  int64_t operations;   // of a product, else 0
};

struct MemoryRow {
  std::string op, where;
  int64_t bytes;  // of the arena, in use while the node runs
};

class Program {
 public:
  // Runs the named passes (all when `passes` is null), plans and binds. backend "ref": the naive kernels alone.
  Program(Graph graph, const std::vector<std::string>* passes = nullptr, const std::string& backend = {});
  ~Program();

  const Graph& graph() const { return graph_; }
  const Plan& plan() const { return plan_; }
  size_t arena_bytes() const { return plan_.arena_bytes + workspace_; }
  std::vector<const Leaf*> leaves(Role role) const;
  std::vector<const Leaf*> states() const;  // params and states, in the graph's order

  // The memory of a param or state, written in place by run. Throws Error(Key) or Error(Value).
  void bind(const std::string& name, Tensor data);
  // Thread-safe: programs with updates run one at a time, others each in an arena of its own.
  std::vector<Tensor> run(const std::vector<Tensor>& inputs);
  // Steps over data in memory: for step k < count the first inputs are the rows order[(first + k)·batch …] of the
  // columns (batch is their leading size), the others slice k of `scalars`. Returns the outputs of the steps done,
  // stacked: all of them, or those that began within `seconds`.
  std::vector<Tensor> run_batches(const std::vector<Tensor>& columns, const Tensor& order, int64_t first, int64_t count,
                                  const std::vector<Tensor>& scalars, double seconds);
  std::vector<ProfileRow> profile(const std::vector<Tensor>& inputs, int repeat);
  std::vector<MemoryRow> memory() const;  // in the order of running

 private:
  struct Step;
  struct Context;
  std::unique_ptr<Context> take_context();
  void check(const std::vector<Tensor>& inputs) const;
  std::vector<Tensor> prepare(Context& c, const std::vector<Tensor>& inputs) const;
  void point(Context& c) const;  // the operands' pointers, from the context's inputs and outputs
  void finish(Context& c) const;
  void execute(const Context& c, size_t step) const;

  Graph graph_;
  Plan plan_;
  std::vector<Step> steps_;
  size_t workspace_ = 0;
  std::vector<Tensor> leaf_data_;  // by leaf: constants and bound states
  std::vector<TensorType> input_types_;
  uint64_t bindings_ = 0;  // counts bind calls, so that contexts know when their pointers are old
  std::mutex mutex_, run_mutex_;
  std::vector<std::unique_ptr<Context>> free_;
};

// One op on concrete tensors, outside any graph.
std::vector<Tensor> run_op(std::string_view op, const std::vector<Tensor>& inputs, const Attrs& attrs,
                           std::string_view backend = {});

// The graph through the named passes, constants folded by the kernels at hand.
Graph optimize(Graph graph, const std::vector<std::string>* passes = nullptr);

// The named params and states as constants, updates dropped: what is left behaves like a classic program.
Graph freeze(const Graph& graph, const std::map<std::string, Tensor>& values);

// Loads a library that adds kernels to the registry; throws Error(Io) with the loader's reason.
void load_backend(const std::string& path);

}  // namespace dlcore
