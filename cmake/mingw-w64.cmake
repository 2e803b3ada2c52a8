# Toolchain: 64-bit Windows programs, built with mingw-w64 on another system
# and run there by Wine. libuv and cmocka come from build/mingw-deps, where
# scripts/mingw-deps.sh puts them.
set(CMAKE_SYSTEM_NAME Windows)
set(CMAKE_SYSTEM_PROCESSOR x86_64)

set(CMAKE_C_COMPILER x86_64-w64-mingw32-gcc)
set(CMAKE_RC_COMPILER x86_64-w64-mingw32-windres)

# No DLL of the compiler's has to stand beside the programs.
set(CMAKE_EXE_LINKER_FLAGS_INIT "-static")

get_filename_component(NPIPE_ROOT "${CMAKE_CURRENT_LIST_DIR}/.." ABSOLUTE)
list(APPEND CMAKE_FIND_ROOT_PATH
  "${NPIPE_ROOT}/build/mingw-deps" /usr/x86_64-w64-mingw32)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)

set(CMAKE_CROSSCOMPILING_EMULATOR sh "${NPIPE_ROOT}/scripts/wine-run.sh")
