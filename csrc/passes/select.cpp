// Which algorithm a convolution uses, by its shape alone, never by the processor, a timing or the number of images: a
// row's prediction must not depend on its batch.
#include <algorithm>
#include <atomic>
#include <string>

#include "passes/passes.h"

namespace dlcore {

namespace {

std::atomic<bool> g_precise = false;

// F(4x4, 3x3) saves up to three quarters of the products, F(2x2, 5x5) two thirds, along one axis a half and two fifths,
// and they pay with transforms of input and output. The precise choice, F(2x2, 3x3), saves up to five ninths and rounds
// about as direct sums do; other kernels, and small groups, have none.
std::string winograd_form(int64_t height, int64_t width, bool precise, bool small_groups) {
  const bool square = height == width, row = height == 1;
  if (precise && (small_groups || !square || width != 3)) return "direct";
  if (square && width == 3) return precise ? "winograd2" : "winograd4";
  if (row && width == 3) return "winograd4";
  if ((square || row) && width == 5) return "winograd2";
  return "direct";
}

// Outputs along an axis of those that a dilation lets one filter see together.
int64_t seen(int64_t outputs, int64_t dilation) { return (outputs + dilation - 1) / dilation; }

// With few channels, of a group, the transforms cost more than the products saved. Products of a group of 16 leave half
// the multipliers idle: with many such groups only the gradient of the weights gains, whose direct sums are slow.
bool channels_pay(const Shape& x, const Shape& y, int64_t groups, bool of_weight) {
  const int64_t least = std::min(x.back(), y.back()) / groups, most = std::max(x.back(), y.back());
  return least >= (groups == 1 || of_weight || most <= 128 ? 16 : 24);
}

// Images and kernels by their last axes: a depth before them is summed over as it is.
bool winograd_pays(const Shape& x, const Shape& y, int64_t kernel_height, const Attrs& attrs, bool of_weight) {
  const size_t h = y.size() - 3, w = y.size() - 2;
  const IntList stride = attrs.ints("stride"), one(stride.size(), 1), dilation = attrs.ints("dilation");
  const int64_t groups = attrs.integer("groups");
  return stride == one && (groups == 1 || (y.size() == 4 && kernel_height > 1)) &&
         channels_pay(x, y, groups, of_weight) && (kernel_height == 1 || seen(y[h], dilation[h - 1]) >= 4) &&
         seen(y[w], dilation[w - 1]) >= 4;  // else half a tile is outside
}

// With stride 2, F(4x4, 2x2) of each phase: along an axis 9 products for 4 outputs of 3 taps instead of 12, or 10 of 4
// taps instead of 16. That is 0.56 or 0.39 of the products, where no tile hangs over the border. From 0.65 on the
// transforms take what is saved (7 or 14 outputs of 3 taps: 0.73, which still pays for the gradient of the weights),
// and so they do below 16 by 32 channels.
bool phases_pay(const Shape& x, const Shape& y, const Shape& kernel, const Attrs& attrs, bool of_weight) {
  const int64_t taps = kernel.back();
  if (y.size() != 4 || kernel[2] != taps || (taps != 3 && taps != 4)) return false;
  if (attrs.ints("stride") != IntList{2, 2} || attrs.ints("dilation") != IntList{1, 1}) return false;
  const auto share = [&](int64_t outputs) {  // of the products along an axis
    const auto tiles = static_cast<double>((outputs + 3) / 4), all = static_cast<double>(taps * outputs);
    return tiles * (taps == 3 ? 9 : 10) / all;
  };
  return attrs.integer("groups") == 1 && x[3] >= 16 && y[3] >= 16 && (x[3] >= 32 || y[3] >= 32) && y[1] > 0 &&
         y[2] > 0 && share(y[1]) * share(y[2]) < (of_weight ? 0.74 : 0.65);
}

// One image alone is so few tiles that reading the transformed weights, 36/9 or 16/9 of the memory of the weights
// themselves, takes longer than the products: of one tile the direct products, and of four, by weights of more than a
// few megabytes, the smaller form is faster. With stride 2 it is 100/9 or 100/16.
std::string alone(const Shape& x, const Shape& y, const std::string& form, bool phases) {
  const auto at_most = [&](int64_t size) { return y.size() == 4 && y[1] <= size && y[2] <= size; };
  if (at_most(phases ? 8 : 4)) return "direct";
  if (phases) return form;
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
    const bool phases = phases_pay(x, y, w, n.attrs, weight);
    if (!phases && !winograd_pays(x, y, height, n.attrs, weight)) continue;
    const int64_t groups = n.attrs.integer("groups");
    const bool small_groups = groups > 1 && std::min(x.back(), y.back()) < 32 * groups;
    const std::string form =
        phases ? (g_precise ? "direct" : "winograd4") : winograd_form(height, w.back(), g_precise, small_groups);
    n.attrs.set("algorithm", latency ? alone(x, y, form, phases) : form);
  }
  return g;
}

}  // namespace dlcore
