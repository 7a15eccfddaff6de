# Flags that every source shares. Contraction is off because each fused multiply-add is explicit: which operations round
# together is the source's decision, never the compiler's (docs/decisions/0001-determinism.md).
add_library(dlcore_flags INTERFACE)
target_compile_options(dlcore_flags INTERFACE -ffp-contract=off -fno-math-errno -Wall -Wextra -ffunction-sections)
# GCC 12 warns falsely of overlapping copies inside std::string (GCC bug 105651).
target_compile_options(dlcore_flags INTERFACE $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict>)
if(DLCORE_WERROR)
  target_compile_options(dlcore_flags INTERFACE -Werror)
endif()
if(DLCORE_SANITIZE)
  target_compile_options(dlcore_flags INTERFACE -fsanitize=${DLCORE_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  target_link_options(dlcore_flags INTERFACE -fsanitize=${DLCORE_SANITIZE})
endif()
