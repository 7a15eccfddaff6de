// Pooling and its adjoints.
#include "ops/define.h"
#include "ops/window.h"

namespace dlcore {

namespace {

Image read_image(Call& c, size_t i, const char* name) {
  c.want_real(i, name);
  c.want_rank(i, 4, name);
  return Image::of(c.shape(i), c.channels_last());
}

Window read_window(Call& c, bool dilated) {
  Window w;
  w.kernel = c.ints("kernel", 2, 1);
  w.stride = c.ints("stride", 2, 1);
  w.padding = c.ints("padding", 4, 0);
  w.dilation = dilated ? c.ints("dilation", 2, 1) : IntList{1, 1};
  w.ceil = c.flag("ceil");
  return w;
}

// Every window must see a pixel: no padding beyond half of it, and no step of a dilated one over the whole image.
void check_windows(const Call& c, const Window& w, const Image& x) {
  for (size_t a = 0; a < 2; ++a) {
    const __int128 reach = static_cast<__int128>(w.kernel[a] - 1) * w.dilation[a] + 1;
    const int64_t size = a == 0 ? x.h : x.w;
    for (size_t side = 0; side < 2; ++side) {
      const int64_t p = w.padding[2 * a + side];
      c.check(static_cast<__int128>(p) * 2 <= reach, "padding ", p, " should be at most half of the window, ",
              static_cast<int64_t>(reach));
      c.check(p == 0 || w.dilation[a] <= size, "dilation ", w.dilation[a], " steps over an image of size ", size);
    }
  }
}

Image pooled(const Call& c, const Window& w, const Image& x) {
  const int64_t h = w.count(c, 0, x.h), width = w.count(c, 1, x.w);
  check_windows(c, w, x);
  return x.with(x.c, h, width);
}

Types infer_max_pool(Call& c) {
  const Image x = read_image(c, 0, "x");
  c.check(x.h <= kMaxWindow / std::max<int64_t>(x.w, 1), "an image of ", x.h, " by ", x.w,
          " is too large for i32 indices");
  const Image y = pooled(c, read_window(c, true), x);
  return {{c.dtype(0), y.shape()}, {DType::I32, y.shape()}};
}

Types infer_max_pool_backward(Call& c) {
  const Image dy = read_image(c, 0, "dy");
  c.want_dtype(1, DType::I32, "the index");
  c.want_shape(1, c.shape(0), "the index");
  const IntList size = c.ints("input_size", 2, 1);
  return {{c.dtype(0), dy.with(dy.c, size[0], size[1]).shape()}};
}

Types infer_max_pool_gather(Call& c) {
  const Image x = read_image(c, 0, "x");
  c.want_dtype(1, DType::I32, "the index");
  c.want_rank(1, 4, "the index");
  const Image index = Image::of(c.shape(1), x.channels_last);
  c.check(index.n == x.n && index.c == x.c, "x ", to_string(c.shape(0)), " and the index ", to_string(c.shape(1)),
          " should agree in images and channels");
  return {{c.dtype(0), c.shape(1)}};
}

ValueId max_backward(Builder& b, const Node& n, ValueId dy, ValueId index, ValueId x_like) {
  const std::string layout = n.attrs.text("layout");
  const Image x = Image::of(b.shape(x_like), layout == "nhwc");
  return b.op("max_pool2d_backward", {dy, index}, {{"input_size", IntList{x.h, x.w}}, {"layout", layout}});
}

Ids grad_max_pool(Builder& b, const Node& n, const Ids& dy) {
  if (dy[0] == kNone) return {kNone};
  return {max_backward(b, n, dy[0], n.outputs[1], n.inputs[0])};
}

Ids grad_max_pool_backward(Builder& b, const Node& n, const Ids& up) {
  return {b.op("max_pool2d_gather", {up[0], n.inputs[1]}, {{"layout", n.attrs.text("layout")}}), kNone};
}

Ids grad_max_pool_gather(Builder& b, const Node& n, const Ids& up) {
  return {max_backward(b, n, up[0], n.inputs[1], n.inputs[0]), kNone};
}

Types infer_avg_pool(Call& c) {
  const Image x = read_image(c, 0, "x");
  c.flag("count_include_pad");
  return {{c.dtype(0), pooled(c, read_window(c, false), x).shape()}};
}

Types infer_avg_pool_backward(Call& c) {
  const Image dy = read_image(c, 0, "dy");
  c.flag("count_include_pad");
  const IntList size = c.ints("input_size", 2, 1);
  const Image x = dy.with(dy.c, size[0], size[1]);
  const Image y = pooled(c, read_window(c, false), x);
  c.check(y.h == dy.h && y.w == dy.w, "dy ", to_string(c.shape(0)), " should be ", y.h, " by ", y.w,
          " for an input of ", size[0], " by ", size[1]);
  return {{c.dtype(0), x.shape()}};
}

Ids grad_avg_pool(Builder& b, const Node& n, const Ids& dy) {
  const Image x = Image::of(b.shape(n.inputs[0]), n.attrs.text("layout") == "nhwc");
  Attrs attrs = n.attrs;
  attrs.set("input_size", IntList{x.h, x.w});
  return {b.op("avg_pool2d_backward", {dy[0]}, std::move(attrs))};
}

Ids grad_avg_pool_backward(Builder& b, const Node& n, const Ids& up) {
  Attrs attrs;
  for (const auto& [name, value] : n.attrs)
    if (name != "input_size") attrs.set(name, value);
  return {b.op("avg_pool2d", {up[0]}, std::move(attrs))};
}

}  // namespace

void register_pool_ops() {
  register_op(define<"max_pool2d", infer_max_pool, grad_max_pool>(1));
  register_op(define<"max_pool2d_backward", infer_max_pool_backward, grad_max_pool_backward>(2));
  register_op(define<"max_pool2d_gather", infer_max_pool_gather, grad_max_pool_gather>(2));
  register_op(define<"avg_pool2d", infer_avg_pool, grad_avg_pool>(1));
  register_op(define<"avg_pool2d_backward", infer_avg_pool_backward, grad_avg_pool_backward>(1));
}

}  // namespace dlcore
