// Which algorithm a convolution uses, by its shape alone, never by the processor, a timing or the number of images: a
// row's prediction must not depend on its batch.
#include <atomic>
#include <string>

#include "passes/passes.h"

namespace dlcore {

namespace {

std::atomic<bool> g_precise = false;

// F(4x4, 3x3) saves up to three quarters of the products, F(2x2, 5x5) two thirds, along one axis a half and two fifths,
// and they pay with transforms of input and output. The precise choice, F(2x2, 3x3), saves up to five ninths and rounds
// about as direct sums do; other kernels have none.
std::string winograd_form(int64_t height, int64_t width, bool precise) {
  const bool square = height == width, row = height == 1;
  if (square && width == 3) return precise ? "winograd2" : "winograd4";
  if (precise) return "direct";
  if (row && width == 3) return "winograd4";
  if ((square || row) && width == 5) return "winograd2";
  return "direct";
}

// Outputs along an axis of those that a dilation lets one filter see together.
int64_t seen(int64_t outputs, int64_t dilation) { return (outputs + dilation - 1) / dilation; }

// Images and kernels by their last axes: a depth before them is summed over as it is.
bool winograd_pays(const Shape& x, const Shape& y, int64_t kernel_height, const Attrs& attrs) {
  const size_t h = y.size() - 3, w = y.size() - 2;
  const IntList stride = attrs.ints("stride"), one(stride.size(), 1), dilation = attrs.ints("dilation");
  return stride == one && attrs.integer("groups") == 1 && x.back() >= 16 &&
         y.back() >= 16 &&  // fewer channels: the transforms cost more than the products saved
         (kernel_height == 1 || seen(y[h], dilation[h - 1]) >= 4) &&
         seen(y[w], dilation[w - 1]) >= 4;  // else half a tile is outside
}

// One image alone is so few tiles that reading the transformed weights, 36/9 or 16/9 of the memory of the weights
// themselves, takes longer than the products: of one tile the direct products, and of four, by weights of more than a
// few megabytes, the smaller form is faster.
std::string alone(const Shape& x, const Shape& y, const std::string& form) {
  const auto at_most = [&](int64_t size) { return y.size() == 4 && y[1] <= size && y[2] <= size; };
  if (at_most(4)) return "direct";
  return form == "winograd4" && y[1] > 1 && at_most(8) && 36 * x[3] * y[3] >= 1 << 20 ? "winograd2" : form;
}

}  // namespace

void set_precise(bool precise) { g_precise = precise; }
bool precise() { return g_precise; }

Graph select_algorithms(const Graph& graph, bool latency) {
  Graph g = graph;
  for (Node& n : g.nodes) {
    const bool forward = n.op == "conv2d" || n.op == "conv3d", convolves = n.op.starts_with("conv");
    const bool data = convolves && n.op.ends_with("_backward_data"),
               weight = convolves && n.op.ends_with("_backward_weight");
    if ((!forward && !data && !weight) || n.attrs.has("algorithm") || n.attrs.text("layout").back() != 'c') continue;
    if (g.dtype(n.outputs[0]) != DType::F32) continue;
    const Shape& x = g.shape(data ? n.outputs[0] : n.inputs[0]);
    const Shape& y = g.shape(forward ? n.outputs[0] : n.inputs[weight ? 1 : 0]);
    const Shape& w = g.shape(weight ? n.outputs[0] : n.inputs[1]);
    const int64_t height = w[w.size() - 2];
    if (!winograd_pays(x, y, height, n.attrs)) continue;
    const std::string form = winograd_form(height, w.back(), g_precise);
    n.attrs.set("algorithm", latency ? alone(x, y, form) : form);
  }
  return g;
}

}  // namespace dlcore
