# Finds libuv and wraps it as the target npipe_libuv, whatever it is called.
#
# libuv has had several target names: uv and uv_a up to 1.44, libuv::uv and
# libuv::uv_a since. The static one (_a) comes first, so that programs run
# without a DLL beside them. Its CMake files are not asked first on Unix:
# distributions that build it with autotools have none, and others ship ones
# that name a static library they do not have, which ends the configuration.

add_library(npipe_libuv INTERFACE)

function(npipe_libuv_from_target found)
  set(${found} FALSE PARENT_SCOPE)
  foreach(name IN ITEMS libuv::uv_a uv_a libuv::uv uv)
    if(TARGET ${name})
      target_link_libraries(npipe_libuv INTERFACE ${name})
      # A target of a surrounding project is no imported one; its headers are
      # not ours to get warnings for all the same.
      get_target_property(dirs ${name} INTERFACE_INCLUDE_DIRECTORIES)
      if(dirs)
        target_include_directories(npipe_libuv SYSTEM INTERFACE ${dirs})
      endif()
      message(STATUS "libuv: target ${name}")
      set(${found} TRUE PARENT_SCOPE)
      return()
    endif()
  endforeach()
endfunction()

function(npipe_libuv_from_pkgconfig found)
  set(${found} FALSE PARENT_SCOPE)
  find_package(PkgConfig QUIET)
  if(NOT PkgConfig_FOUND)
    return()
  endif()
  pkg_check_modules(NPIPE_LIBUV QUIET IMPORTED_TARGET libuv)
  if(NPIPE_LIBUV_FOUND)
    target_link_libraries(npipe_libuv INTERFACE PkgConfig::NPIPE_LIBUV)
    message(STATUS "libuv: ${NPIPE_LIBUV_VERSION} by pkg-config")
    set(${found} TRUE PARENT_SCOPE)
  endif()
endfunction()

npipe_libuv_from_target(NPIPE_HAVE_LIBUV)
if(NOT NPIPE_HAVE_LIBUV AND UNIX AND NOT libuv_DIR)
  npipe_libuv_from_pkgconfig(NPIPE_HAVE_LIBUV)
endif()
if(NOT NPIPE_HAVE_LIBUV)
  find_package(libuv CONFIG QUIET)
  npipe_libuv_from_target(NPIPE_HAVE_LIBUV)
endif()
if(NOT NPIPE_HAVE_LIBUV AND NOT UNIX AND NOT CMAKE_CROSSCOMPILING)
  npipe_libuv_from_pkgconfig(NPIPE_HAVE_LIBUV)
endif()
if(NOT NPIPE_HAVE_LIBUV)
  if(CMAKE_CROSSCOMPILING AND WIN32)
    set(NPIPE_HINT "sh scripts/mingw-deps.sh")
  else()
    string(CONCAT NPIPE_HINT
      "Debian, Ubuntu: libuv1-dev; Fedora: libuv-devel; "
      "Arch, Homebrew, vcpkg: libuv; MSYS2: mingw-w64-ucrt-x86_64-libuv. "
      "On Unix, sh scripts/setup.sh demo does it")
  endif()
  message(FATAL_ERROR "npipe needs libuv, which was not found. Install it (or "
    "set libuv_DIR to the folder of its libuvConfig.cmake): ${NPIPE_HINT}.")
endif()
