// Errors that reach the user as Python exceptions; the kind chooses which.
#pragma once
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>

namespace dlcore {

enum class ErrorKind { Value, Type, Index, Key, Memory, Io, Runtime };

class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& message) : std::runtime_error(message), kind_(kind) {}
  ErrorKind kind() const noexcept { return kind_; }

 private:
  ErrorKind kind_;
};

template <class... Args>
std::string format(const Args&... args) {
  std::ostringstream out;
  (out << ... << args);
  return out.str();
}

template <class... Args>
[[noreturn]] void fail(ErrorKind kind, const Args&... args) {
  throw Error(kind, format(args...));
}

}  // namespace dlcore

// The message is only built when the check fails: DLCORE_CHECK(a == b, Value, "[op] sizes differ: ", a, " and ", b).
#define DLCORE_CHECK(condition, kind, ...)                    \
  do {                                                        \
    if (!(condition)) [[unlikely]]                            \
      ::dlcore::fail(::dlcore::ErrorKind::kind, __VA_ARGS__); \
  } while (false)
