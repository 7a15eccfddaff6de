// What convolution and pooling share: an image's axes in either layout and the arithmetic of sliding windows.
#pragma once
#include "ops/call.h"

namespace dlcore {

struct Image {  // of rank 4
  int64_t n, c, h, w;
  bool channels_last;

  static Image of(const Shape& shape, bool channels_last) {
    return channels_last ? Image{shape[0], shape[3], shape[1], shape[2], true}
                         : Image{shape[0], shape[1], shape[2], shape[3], false};
  }
  Shape shape() const { return channels_last ? Shape{n, h, w, c} : Shape{n, c, h, w}; }
  Image with(int64_t channels, int64_t height, int64_t width) const {
    return {n, channels, height, width, channels_last};
  }
};

struct Window {
  IntList kernel, stride, padding, dilation;  // [2] height, width (or [3], depth first); padding: low, high of each
  bool ceil = false;                          // the number of windows rounds up

  // Windows along one of these axes of an image of `size`; checks that there is one.
  int64_t count(const Call& c, int axis, int64_t size) const;
};

inline constexpr int64_t kMaxWindow = int64_t{1} << 31;  // of any size, kernel, stride, padding, dilation: sums fit

}  // namespace dlcore
