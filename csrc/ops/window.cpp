#include "ops/window.h"

namespace dlcore {

int64_t Window::count(const Call& c, int axis, int64_t size) const {
  const auto a = static_cast<size_t>(axis);
  const int64_t low = padding[2 * a], high = padding[2 * a + 1];
  c.check(size <= kMaxWindow && kernel[a] <= kMaxWindow && stride[a] <= kMaxWindow && low <= kMaxWindow &&
              high <= kMaxWindow && dilation[a] <= kMaxWindow,
          "sizes, kernel, stride, padding and dilation should be at most ", kMaxWindow);
  static constexpr const char* kAxes[] = {"depth ", "height ", "width "};
  const __int128 reach = static_cast<__int128>(kernel[a] - 1) * dilation[a] + 1;
  const __int128 room = static_cast<__int128>(size) + low + high - reach;
  c.check(size >= 1 && room >= 0, kAxes[3 - kernel.size() + a], size, " with padding ", low, " and ", high,
          " is too small for kernel ", kernel[a], dilation[a] > 1 ? format(" with dilation ", dilation[a]) : "");
  const auto free = static_cast<int64_t>(room);
  int64_t count = free / stride[a] + 1;
  // Rounded up, a window may hang over the far padding, but must start before it.
  if (ceil && free % stride[a] != 0 && count * stride[a] < size + low) ++count;
  return count;
}

}  // namespace dlcore
