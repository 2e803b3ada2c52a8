# Finds cmocka, for the tests, and wraps it as the target npipe_cmocka. Sets
# NPIPE_HAVE_CMOCKA; without it there are no tests, but all the rest builds.
#
# cmocka 1.1.5 has no target at all, later ones have cmocka or cmocka::cmocka;
# the static library is libcmocka-static in some and libcmocka in others.

add_library(npipe_cmocka INTERFACE)
set(NPIPE_HAVE_CMOCKA FALSE)

if(UNIX)
  find_package(PkgConfig QUIET)
  if(PkgConfig_FOUND)
    pkg_check_modules(NPIPE_CMOCKA QUIET IMPORTED_TARGET cmocka)
  endif()
  if(NPIPE_CMOCKA_FOUND)
    target_link_libraries(npipe_cmocka INTERFACE PkgConfig::NPIPE_CMOCKA)
    message(STATUS "cmocka: ${NPIPE_CMOCKA_VERSION} by pkg-config")
    set(NPIPE_HAVE_CMOCKA TRUE)
  endif()
endif()

if(NOT NPIPE_HAVE_CMOCKA AND NOT CMAKE_CROSSCOMPILING)
  find_package(cmocka CONFIG QUIET)
  foreach(name IN ITEMS cmocka::cmocka-static cmocka-static cmocka::cmocka
      cmocka)
    if(NOT NPIPE_HAVE_CMOCKA AND TARGET ${name})
      target_link_libraries(npipe_cmocka INTERFACE ${name})
      message(STATUS "cmocka: target ${name}")
      set(NPIPE_HAVE_CMOCKA TRUE)
    endif()
  endforeach()
endif()

if(NOT NPIPE_HAVE_CMOCKA)
  find_path(NPIPE_CMOCKA_INCLUDE_DIR cmocka.h)
  find_library(NPIPE_CMOCKA_LIBRARY NAMES cmocka-static cmocka)
  mark_as_advanced(NPIPE_CMOCKA_INCLUDE_DIR NPIPE_CMOCKA_LIBRARY)
  if(NPIPE_CMOCKA_INCLUDE_DIR AND NPIPE_CMOCKA_LIBRARY)
    target_include_directories(npipe_cmocka SYSTEM INTERFACE
      "${NPIPE_CMOCKA_INCLUDE_DIR}")
    target_link_libraries(npipe_cmocka INTERFACE "${NPIPE_CMOCKA_LIBRARY}")
    message(STATUS "cmocka: ${NPIPE_CMOCKA_LIBRARY}")
    set(NPIPE_HAVE_CMOCKA TRUE)
  endif()
endif()

if(NOT NPIPE_HAVE_CMOCKA)
  if(CMAKE_CROSSCOMPILING AND WIN32)
    set(NPIPE_HINT "sh scripts/mingw-deps.sh")
  else()
    string(CONCAT NPIPE_HINT
      "Debian, Ubuntu: libcmocka-dev; Fedora: libcmocka-devel; "
      "Arch, Homebrew, vcpkg: cmocka; MSYS2: mingw-w64-ucrt-x86_64-cmocka")
  endif()
  message(WARNING "There will be no tests: cmocka was not found. Install it: ${NPIPE_HINT}")
endif()
