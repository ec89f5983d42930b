# How everything is compiled: nova_flags for all code, nova_warnings for ours (not for gen/).
include_guard()

add_library(nova_flags INTERFACE)
add_library(nova_warnings INTERFACE)

target_compile_options(nova_warnings INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion -Wformat=2 -Wundef -Wvla
  -Walloca -Wcast-qual -Wcast-align -Wstrict-prototypes -Wmissing-prototypes
  -Wold-style-definition -Wpointer-arith -Wwrite-strings -Wswitch-enum -Wimplicit-fallthrough
  -Wnull-dereference -Wdouble-promotion -Wdate-time -Werror)
if(CMAKE_C_COMPILER_ID STREQUAL "GNU")
  target_compile_options(nova_warnings INTERFACE
    -Wformat-signedness -Wformat-overflow=2 -Wformat-truncation=2 -Wduplicated-cond
    -Wduplicated-branches -Wlogical-op -Wjump-misses-init -Wstringop-overflow=4 -Warray-bounds=2
    -Warith-conversion -Wtrampolines -Wbidi-chars=any)
else()
  target_compile_options(nova_warnings INTERFACE
    -Wmissing-variable-declarations -Wcomma -Wassign-enum -Wconditional-uninitialized
    -Wunreachable-code-aggressive -Wextra-semi-stmt -Wloop-analysis
    # ERR() and TRY() are used before a blank argument list in places gcc accepts.
    -Wno-gnu-zero-variadic-macro-arguments
    # protobuf-c's __INIT macros cast const away in our files; gcc tells them apart, and gates.
    -Wno-cast-qual)
endif()

set(NOVA_SANITIZE "" CACHE STRING "Sanitizers: empty, address (with undefined), thread or memory")
set_property(CACHE NOVA_SANITIZE PROPERTY STRINGS "" address thread memory)

option(NOVA_ANALYZE "gcc's static analyzer instead of a usable build" OFF)
option(NOVA_COVERAGE "Count executed lines, for tools/coverage (gcc)" OFF)

# Warnings that depend on what the optimizer finds out: with sanitizers or the analyzer gcc finds out
# other things and reports what is not there. They gate in the release build.
if(CMAKE_C_COMPILER_ID STREQUAL "GNU" AND (NOVA_ANALYZE OR NOVA_COVERAGE OR NOT NOVA_SANITIZE STREQUAL ""))
  target_compile_options(nova_warnings INTERFACE
    -Wno-format-truncation -Wno-format-overflow -Wno-stringop-overflow -Wno-stringop-overread
    -Wno-stringop-truncation -Wno-array-bounds -Wno-null-dereference -Wno-maybe-uninitialized
    -Wno-restrict)
endif()

# Sanitizers pad every variable on the stack.
if(NOVA_SANITIZE STREQUAL "")
  target_compile_options(nova_warnings INTERFACE -Wframe-larger-than=16384)
else()
  target_compile_options(nova_warnings INTERFACE -Wframe-larger-than=65536)
endif()

if(NOVA_ANALYZE)
  # Without the hardening, whose initialization of every local hides and invents findings.
  # gcc 12 loses the fields of a struct that a function returns in registers, so that every rc is
  # "uninitialized"; clang's -Wconditional-uninitialized and analyzer look for the real ones.
  target_compile_options(nova_flags INTERFACE
    -O2 -g -fPIC -fanalyzer -Wno-analyzer-use-of-uninitialized-value)
elseif(NOVA_COVERAGE)
  target_compile_options(nova_flags INTERFACE -O1 -g -fPIC --coverage)
  target_link_options(nova_flags INTERFACE --coverage)
elseif(NOVA_SANITIZE STREQUAL "")
  target_compile_options(nova_flags INTERFACE
    -O2 -g -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3 -fstack-protector-strong -fstack-clash-protection
    -fno-strict-overflow -fno-strict-aliasing -fno-delete-null-pointer-checks -fno-common -fPIC
    -fvisibility=hidden
    # No path of this machine in the binary: it is the same wherever it is built (tools/production).
    -ffile-prefix-map=${CMAKE_SOURCE_DIR}/= -ffile-prefix-map=${CMAKE_BINARY_DIR}=build)
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
    target_compile_options(nova_flags INTERFACE -fcf-protection=full)
  endif()
  if(CMAKE_C_COMPILER_ID STREQUAL "GNU")
    target_compile_options(nova_flags INTERFACE
      -ftrivial-auto-var-init=zero -fzero-call-used-regs=used-gpr)
  else()
    target_compile_options(nova_flags INTERFACE -ftrivial-auto-var-init=pattern)
  endif()
  target_link_options(nova_flags INTERFACE
    -Wl,-z,relro,-z,now,-z,noexecstack,-z,separate-code,--as-needed,--build-id=sha1)
else()
  set(sanitizers ${NOVA_SANITIZE})
  if(NOVA_SANITIZE STREQUAL "address")
    set(sanitizers address,undefined)
    if(CMAKE_C_COMPILER_ID STREQUAL "GNU")
      set(sanitizers ${sanitizers},bounds-strict)
    endif()
  endif()
  target_compile_options(nova_flags INTERFACE
    -O1 -g -fno-omit-frame-pointer -fPIC -fno-common -fsanitize=${sanitizers}
    -fno-sanitize-recover=all)
  target_link_options(nova_flags INTERFACE -fsanitize=${sanitizers})
endif()

if(NOVA_FUZZ)
  if(NOT CMAKE_C_COMPILER_ID STREQUAL "Clang")
    message(FATAL_ERROR "NOVA_FUZZ needs clang: -DCMAKE_C_COMPILER=clang")
  endif()
  # Coverage for libFuzzer in every room; only the fuzz targets link its driver.
  target_compile_options(nova_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()
