# What every target of this project is compiled with: the language, the
# warnings, the sanitizers, and what the system's headers want to see defined.

# C11 without extensions hides what uv.h itself needs (pthread_rwlock_t), so
# the systems are asked for all they have. The BSDs show everything unasked.
function(npipe_system_definitions result)
  if(WIN32)
    set(definitions _WIN32_WINNT=0x0A00 WIN32_LEAN_AND_MEAN UNICODE _UNICODE)
    if(MINGW)
      # printf as C11 has it (%zu, %lld), with the checks of the compiler.
      list(APPEND definitions __USE_MINGW_ANSI_STDIO=1)
    else()
      list(APPEND definitions _CRT_SECURE_NO_WARNINGS
        _CRT_NONSTDC_NO_DEPRECATE)
    endif()
  elseif(APPLE)
    set(definitions _DARWIN_C_SOURCE)
  elseif(CMAKE_SYSTEM_NAME STREQUAL "Linux" OR CYGWIN)
    set(definitions _GNU_SOURCE)
  else()
    set(definitions "")
  endif()
  set(${result} ${definitions} PARENT_SCOPE)
endfunction()

# Sets up one target. Everything is private: nothing here reaches a program
# that links the library.
function(npipe_target target)
  set_target_properties(${target} PROPERTIES
    C_STANDARD 11
    C_STANDARD_REQUIRED ON
    C_EXTENSIONS OFF
    C_VISIBILITY_PRESET hidden
    POSITION_INDEPENDENT_CODE ON)
  npipe_system_definitions(definitions)
  target_compile_definitions(${target} PRIVATE ${definitions})
  if(MSVC)
    target_compile_options(${target} PRIVATE /W4 /utf-8)
    if(NPIPE_WERROR)
      target_compile_options(${target} PRIVATE /WX)
    endif()
  else()
    target_compile_options(${target} PRIVATE
      -Wall -Wextra -Wpedantic -Wconversion -Wshadow)
    if(MINGW)
      # Its gcc takes every format attribute that is not one of its own headers'
      # for Microsoft's old printf, which has no %zu; what is linked has it. The
      # native builds check the formats.
      target_compile_options(${target} PRIVATE -Wno-format)
    endif()
    if(NPIPE_WERROR)
      target_compile_options(${target} PRIVATE -Werror)
    endif()
  endif()
  if(NPIPE_SANITIZE)
    # gcc's UBSan hides from this warning what is a constant; it is on in the
    # other builds.
    target_compile_options(${target} PRIVATE -Wno-sign-conversion)
    target_compile_options(${target} PRIVATE
      -fsanitize=${NPIPE_SANITIZE} -fno-sanitize-recover=all
      -fno-omit-frame-pointer)
    # The programs need it too, so this one is handed on.
    target_link_options(${target} PUBLIC -fsanitize=${NPIPE_SANITIZE})
  endif()
endfunction()
