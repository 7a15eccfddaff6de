// Convolution and its two adjoints, which are closed under differentiation.
#include "ops/define.h"
#include "ops/window.h"

namespace dlcore {

namespace {

struct Conv {
  Window window;
  int64_t groups;
  bool channels_last, winograd;
};

// Winograd's algorithm exists for 3x3 kernels moved one pixel at a time.
void check_algorithm(Call& c, const Conv& conv) {
  const IntList one{1, 1}, three{3, 3};
  c.check(!conv.winograd || (conv.window.kernel == three && conv.window.stride == one && conv.window.dilation == one &&
                             conv.groups == 1),
          "algorithm winograd4 needs a 3x3 kernel with stride, dilation and groups 1");
}

// Reads what the three ops share; the kernel size is filled in by the caller.
Conv read_conv(Call& c) {
  c.want_same_dtype(0, 1);
  c.want_real(0, "the first input");
  Conv conv;
  conv.window.stride = c.ints("stride", 2, 1);
  conv.window.padding = c.ints("padding", 4, 0);
  conv.window.dilation = c.ints("dilation", 2, 1);
  conv.groups = c.integer("groups", 1);
  conv.channels_last = c.channels_last();
  conv.winograd = c.choice("algorithm", {"direct", "winograd4"}) == "winograd4";
  return conv;
}

void check_weight(Call& c, const Conv& conv, const Shape& w) {
  c.check(w[0] % conv.groups == 0, w[0], " output channels do not divide into ", conv.groups, " groups");
  c.check(w[1] >= 1 && w[2] >= 1 && w[3] >= 1, "the weight ", to_string(w), " should have no empty axis");
}

Types infer_conv2d(Call& c) {
  Conv conv = read_conv(c);
  c.want_rank(0, 4, "x");
  c.want_rank(1, 4, "the weight");
  const Image x = Image::of(c.shape(0), conv.channels_last);
  const Shape& w = c.shape(1);
  check_weight(c, conv, w);
  c.check(x.c % conv.groups == 0 && x.c / conv.groups == w[1], "x ", to_string(c.shape(0)), " has ", x.c,
          " channels, the weight ", to_string(w), " with ", conv.groups, conv.groups == 1 ? " group" : " groups",
          " wants ", w[1], conv.groups == 1 ? "" : " a group");
  conv.window.kernel = {w[2], w[3]};
  check_algorithm(c, conv);
  const int64_t h = conv.window.count(c, 0, x.h), width = conv.window.count(c, 1, x.w);
  return {{c.dtype(0), x.with(w[0], h, width).shape()}};
}

Types infer_backward_data(Call& c) {
  Conv conv = read_conv(c);
  c.want_rank(0, 4, "dy");
  c.want_rank(1, 4, "the weight");
  const IntList size = c.ints("input_size", 2, 1);
  const Image dy = Image::of(c.shape(0), conv.channels_last);
  const Shape& w = c.shape(1);
  check_weight(c, conv, w);
  c.check(dy.c == w[0], "dy ", to_string(c.shape(0)), " has ", dy.c, " channels, the weight ", to_string(w), " has ",
          w[0], " outputs");
  conv.window.kernel = {w[2], w[3]};
  check_algorithm(c, conv);
  const int64_t h = conv.window.count(c, 0, size[0]), width = conv.window.count(c, 1, size[1]);
  c.check(dy.h == h && dy.w == width, "dy ", to_string(c.shape(0)), " should be ", h, " by ", width,
          " for an input of ", size[0], " by ", size[1]);
  int64_t channels;
  c.check(!__builtin_mul_overflow(w[1], conv.groups, &channels), "too many groups: ", conv.groups);
  return {{c.dtype(0), dy.with(channels, size[0], size[1]).shape()}};
}

Types infer_backward_weight(Call& c) {
  Conv conv = read_conv(c);
  c.want_rank(0, 4, "x");
  c.want_rank(1, 4, "dy");
  conv.window.kernel = c.ints("kernel", 2, 1);
  check_algorithm(c, conv);
  const Image x = Image::of(c.shape(0), conv.channels_last), dy = Image::of(c.shape(1), conv.channels_last);
  c.check(x.n == dy.n, "x ", to_string(c.shape(0)), " and dy ", to_string(c.shape(1)),
          " should hold the same number of images");
  c.check(x.c % conv.groups == 0 && dy.c % conv.groups == 0, "channels of x ", to_string(c.shape(0)), " and dy ",
          to_string(c.shape(1)), " should divide into ", conv.groups, " groups");
  const int64_t h = conv.window.count(c, 0, x.h), width = conv.window.count(c, 1, x.w);
  c.check(dy.h == h && dy.w == width, "dy ", to_string(c.shape(1)), " should be ", h, " by ", width, " for x ",
          to_string(c.shape(0)), " and this kernel");
  return {{c.dtype(0), {dy.c, x.c / conv.groups, conv.window.kernel[0], conv.window.kernel[1]}}};
}

// The shared attributes of a node, to be completed for another of the three.
Attrs shared(const Node& n) {
  return {{"stride", n.attrs.ints("stride")},
          {"padding", n.attrs.ints("padding")},
          {"dilation", n.attrs.ints("dilation")},
          {"groups", n.attrs.integer("groups")},
          {"layout", n.attrs.text("layout")}};
}

ValueId forward(Builder& b, const Node& n, ValueId x, ValueId w) { return b.op("conv2d", {x, w}, shared(n)); }

ValueId backward_data(Builder& b, const Node& n, ValueId dy, ValueId w, ValueId x_like) {
  const Image x = Image::of(b.shape(x_like), n.attrs.text("layout") == "nhwc");
  Attrs attrs = shared(n);
  attrs.set("input_size", IntList{x.h, x.w});
  return b.op("conv2d_backward_data", {dy, w}, std::move(attrs));
}

ValueId backward_weight(Builder& b, const Node& n, ValueId x, ValueId dy, ValueId w_like) {
  const Shape w = b.shape(w_like);
  Attrs attrs = shared(n);
  attrs.set("kernel", IntList{w[2], w[3]});
  return b.op("conv2d_backward_weight", {x, dy}, std::move(attrs));
}

Ids grad_conv2d(Builder& b, const Node& n, const Ids& dy) {
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
  register_op(define<"conv2d", infer_conv2d, grad_conv2d>(2));
  register_op(define<"conv2d_backward_data", infer_backward_data, grad_backward_data>(2));
  register_op(define<"conv2d_backward_weight", infer_backward_weight, grad_backward_weight>(2));
}

}  // namespace dlcore
