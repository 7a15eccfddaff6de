// Convolution of images with two or three axes and its adjoints, which are closed under differentiation.
#include "ops/define.h"
#include "ops/window.h"

namespace dlcore {

namespace {

struct Images {
  int64_t n, c;
  IntList size;
  bool channels_last;

  static Images of(const Shape& shape, bool channels_last) {
    const size_t first = channels_last ? 1 : 2, axes = shape.size() - 2;
    IntList size;
    for (size_t i = 0; i < axes; ++i) size.push_back(shape[first + i]);
    return {shape[0], channels_last ? shape.back() : shape[1], std::move(size), channels_last};
  }
  Shape shape() const {
    Shape s{n};
    if (!channels_last) s.push_back(c);
    s.insert(s.end(), size.begin(), size.end());
    if (channels_last) s.push_back(c);
    return s;
  }
};

std::string by(const IntList& size) {
  std::string text;
  for (int64_t n : size) text += (text.empty() ? "" : " by ") + std::to_string(n);
  return text;
}

struct Conv {
  Window window;
  int64_t groups;
  bool channels_last;
  std::string algorithm = "direct";

  IntList count(const Call& c, const IntList& size) const {
    IntList found;
    for (size_t i = 0; i < size.size(); ++i) found.push_back(window.count(c, static_cast<int>(i), size[i]));
    return found;
  }
};

// Winograd's algorithm exists for kernels moved one pixel at a time: winograd4 of three taps along the last two axes or
// along the last one, winograd2 of three along both, or of five. The depth is summed over as it is. Moved by two pixels
// of an image, winograd4 of three or four taps along both axes.
void check_algorithm(Call& c, const Conv& conv) {
  if (conv.algorithm == "direct") return;
  const IntList &all = conv.window.kernel, &stride = conv.window.stride, one(all.size(), 1);
  const int64_t height = all[all.size() - 2], width = all.back();
  const bool row = height == 1 && (width == 3 || width == 5), square = height == width;
  const bool known = conv.algorithm == "winograd4" ? width == 3 && (row || square)
                                                   : (square && (width == 3 || width == 5)) || (row && width == 5);
  const bool by_two = conv.algorithm == "winograd4" && stride == IntList{2, 2} && conv.window.dilation == one &&
                      square && (width == 3 || width == 4);
  c.check(((known && stride == one) || (by_two && conv.groups == 1)) && (conv.groups == 1 || all.size() == 2),
          "the algorithm ", conv.algorithm, " needs stride 1 and a kernel whose height and width are ",
          conv.algorithm == "winograd4"
              ? "3x3 or 1x3, or for images without dilation and groups stride 2 and 3x3 or 4x4"
              : "3x3, 5x5 or 1x5",
          ", and groups 1 for images with a depth");
}

// Reads what the three ops share; the kernel size is filled in by the caller.
template <int kAxes>
Conv read_conv(Call& c) {
  c.want_same_dtype(0, 1);
  c.want_real(0, "the first input");
  Conv conv;
  conv.window.stride = c.ints("stride", kAxes, 1);
  conv.window.padding = c.ints("padding", 2 * kAxes, 0);
  conv.window.dilation = c.ints("dilation", kAxes, 1);
  conv.groups = c.integer("groups", 1);
  conv.channels_last = c.channels_last(kAxes);
  conv.algorithm = c.choice("algorithm", {"direct", "winograd4", "winograd2"});
  return conv;
}

// Takes the kernel's size from the weight.
void read_weight(Call& c, Conv& conv, const Shape& w) {
  c.check(w[0] % conv.groups == 0, w[0], " output channels do not divide into ", conv.groups, " groups");
  conv.window.kernel.assign(w.begin() + 2, w.end());
  bool empty = w[1] < 1;
  for (int64_t k : conv.window.kernel) empty |= k < 1;
  c.check(!empty, "the weight ", to_string(w), " should have no empty axis");
  check_algorithm(c, conv);
}

template <int kAxes>
Types infer_forward(Call& c) {
  Conv conv = read_conv<kAxes>(c);
  c.want_rank(0, kAxes + 2, "x");
  c.want_rank(1, kAxes + 2, "the weight");
  const Images x = Images::of(c.shape(0), conv.channels_last);
  const Shape& w = c.shape(1);
  read_weight(c, conv, w);
  c.check(x.c % conv.groups == 0 && x.c / conv.groups == w[1], "x ", to_string(c.shape(0)), " has ", x.c,
          " channels, the weight ", to_string(w), " with ", conv.groups, conv.groups == 1 ? " group" : " groups",
          " wants ", w[1], conv.groups == 1 ? "" : " a group");
  return {{c.dtype(0), Images{x.n, w[0], conv.count(c, x.size), conv.channels_last}.shape()}};
}

template <int kAxes>
Types infer_backward_data(Call& c) {
  Conv conv = read_conv<kAxes>(c);
  c.want_rank(0, kAxes + 2, "dy");
  c.want_rank(1, kAxes + 2, "the weight");
  const IntList size = c.ints("input_size", kAxes, 1);
  const Images dy = Images::of(c.shape(0), conv.channels_last);
  const Shape& w = c.shape(1);
  read_weight(c, conv, w);
  c.check(dy.c == w[0], "dy ", to_string(c.shape(0)), " has ", dy.c, " channels, the weight ", to_string(w), " has ",
          w[0], " outputs");
  const IntList outputs = conv.count(c, size);
  c.check(dy.size == outputs, "dy ", to_string(c.shape(0)), " should be ", by(outputs), " for an input of ", by(size));
  int64_t channels;
  c.check(!__builtin_mul_overflow(w[1], conv.groups, &channels), "too many groups: ", conv.groups);
  return {{c.dtype(0), Images{dy.n, channels, size, conv.channels_last}.shape()}};
}

template <int kAxes>
Types infer_backward_weight(Call& c) {
  Conv conv = read_conv<kAxes>(c);
  c.want_rank(0, kAxes + 2, "x");
  c.want_rank(1, kAxes + 2, "dy");
  conv.window.kernel = c.ints("kernel", kAxes, 1);
  check_algorithm(c, conv);
  const Images x = Images::of(c.shape(0), conv.channels_last), dy = Images::of(c.shape(1), conv.channels_last);
  c.check(x.n == dy.n, "x ", to_string(c.shape(0)), " and dy ", to_string(c.shape(1)),
          " should hold the same number of images");
  c.check(x.c % conv.groups == 0 && dy.c % conv.groups == 0, "channels of x ", to_string(c.shape(0)), " and dy ",
          to_string(c.shape(1)), " should divide into ", conv.groups, " groups");
  const IntList outputs = conv.count(c, x.size);
  c.check(dy.size == outputs, "dy ", to_string(c.shape(1)), " should be ", by(outputs), " for x ",
          to_string(c.shape(0)), " and this kernel");
  Shape w{dy.c, x.c / conv.groups};
  w.insert(w.end(), conv.window.kernel.begin(), conv.window.kernel.end());
  return {{c.dtype(0), w}};
}

// The shared attributes of a node, to be completed for another of the three.
Attrs shared(const Node& n) {
  return {{"stride", n.attrs.ints("stride")},
          {"padding", n.attrs.ints("padding")},
          {"dilation", n.attrs.ints("dilation")},
          {"groups", n.attrs.integer("groups")},
          {"layout", n.attrs.text("layout")}};
}

std::string name(const Node& n, const char* direction = "") { return n.op.substr(0, 6) + direction; }  // convNd…

ValueId forward(Builder& b, const Node& n, ValueId x, ValueId w) { return b.op(name(n), {x, w}, shared(n)); }

ValueId backward_data(Builder& b, const Node& n, ValueId dy, ValueId w, ValueId x_like) {
  Attrs attrs = shared(n);
  attrs.set("input_size", Images::of(b.shape(x_like), n.attrs.text("layout").back() == 'c').size);
  return b.op(name(n, "_backward_data"), {dy, w}, std::move(attrs));
}

ValueId backward_weight(Builder& b, const Node& n, ValueId x, ValueId dy, ValueId w_like) {
  const Shape w = b.shape(w_like);
  Attrs attrs = shared(n);
  attrs.set("kernel", IntList(w.begin() + 2, w.end()));
  return b.op(name(n, "_backward_weight"), {x, dy}, std::move(attrs));
}

Ids grad_forward(Builder& b, const Node& n, const Ids& dy) {
  const ValueId x = n.inputs[0], w = n.inputs[1];
  return {backward_data(b, n, dy[0], w, x), backward_weight(b, n, x, dy[0], w)};
}

// Below, `up` is the gradient of the node's own output: of dx, then of dw.
Ids grad_backward_data(Builder& b, const Node& n, const Ids& up) {
  const ValueId dy = n.inputs[0], w = n.inputs[1];
  return {forward(b, n, up[0], w), backward_weight(b, n, up[0], dy, w)};
}

Ids grad_backward_weight(Builder& b, const Node& n, const Ids& up) {
  const ValueId x = n.inputs[0], dy = n.inputs[1];
  return {backward_data(b, n, dy, up[0], x), forward(b, n, x, up[0])};
}

}  // namespace

void register_conv_ops() {
  register_op(define<"conv2d", infer_forward<2>, grad_forward>(2));
  register_op(define<"conv2d_backward_data", infer_backward_data<2>, grad_backward_data>(2));
  register_op(define<"conv2d_backward_weight", infer_backward_weight<2>, grad_backward_weight>(2));
  register_op(define<"conv3d", infer_forward<3>, grad_forward>(2));
  register_op(define<"conv3d_backward_data", infer_backward_data<3>, grad_backward_data>(2));
  register_op(define<"conv3d_backward_weight", infer_backward_weight<3>, grad_backward_weight>(2));
}

}  // namespace dlcore
