// Which algorithm a convolution uses, by its shape alone, never by the processor, a timing or the number of images: a
// row's prediction must not depend on its batch.
#include <atomic>

#include "passes/passes.h"

namespace dlcore {

namespace {

std::atomic<bool> g_precise = false;

// F(4x4, 3x3) saves up to three quarters of the products and pays with transforms of its input and output. The precise
// choice, F(2x2, 3x3), saves up to five ninths and rounds about as direct sums do.
bool winograd_pays(const Shape& x, const Shape& y, const IntList& kernel, const Attrs& attrs) {
  const IntList one{1, 1}, three{3, 3};
  return kernel == three && attrs.ints("stride") == one && attrs.ints("dilation") == one &&
         attrs.integer("groups") == 1 && x[3] >= 16 &&
         y[3] >= 16 &&            // fewer channels: the transforms cost more than the products saved
         y[1] >= 4 && y[2] >= 4;  // smaller images: most of a tile lies outside
}

// One image of one tile has a single row to multiply with each of the 36 matrices of transformed weights, four times
// the memory of the weights themselves: reading them takes longer than the direct products.
bool single_tile(const Shape& y) { return y[1] <= 4 && y[2] <= 4; }

}  // namespace

void set_precise(bool precise) { g_precise = precise; }
bool precise() { return g_precise; }

Graph select_algorithms(const Graph& graph, bool latency) {
  Graph g = graph;
  for (Node& n : g.nodes) {
    const bool forward = n.op == "conv2d", data = n.op == "conv2d_backward_data",
               weight = n.op == "conv2d_backward_weight";
    if ((!forward && !data && !weight) || n.attrs.has("algorithm") || n.attrs.text("layout") != "nhwc") continue;
    if (g.dtype(n.outputs[0]) != DType::F32) continue;
    const Shape& x = g.shape(data ? n.outputs[0] : n.inputs[0]);
    const Shape& y = g.shape(forward ? n.outputs[0] : n.inputs[weight ? 1 : 0]);
    const Shape& w = g.shape(weight ? n.outputs[0] : n.inputs[1]);
    if (!winograd_pays(x, y, {w[2], w[3]}, n.attrs)) continue;
    const bool direct = latency && single_tile(y);
    n.attrs.set("algorithm", std::string(direct ? "direct" : g_precise ? "winograd2" : "winograd4"));
  }
  return g;
}

}  // namespace dlcore
