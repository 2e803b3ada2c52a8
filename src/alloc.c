/*
 * The library's only way to the heap.
 *
 * A program may put its own allocator here before it uses anything else; the
 * tests do, to make the n-th allocation fail. libuv has an allocator of its
 * own (uv_replace_allocator), which this one does not touch.
 */
#include <stdlib.h>
#include <string.h>

#include "internal.h"

static void* (*alloc_malloc)(size_t) = malloc;
static void* (*alloc_realloc)(void*, size_t) = realloc;
static void (*alloc_free)(void*) = free;

int npipe_replace_allocator(void* (*malloc_fn)(size_t),
                            void* (*realloc_fn)(void*, size_t),
                            void (*free_fn)(void*)) {
  if (malloc_fn == NULL || realloc_fn == NULL || free_fn == NULL)
    return npi_fail(UV_EINVAL, 0, "replace the allocator: a function is NULL");
  alloc_malloc = malloc_fn;
  alloc_realloc = realloc_fn;
  alloc_free = free_fn;
  return 0;
}

void* npi_malloc(size_t size) {
  return alloc_malloc(size > 0 ? size : 1);
}

void* npi_calloc(size_t count, size_t size) {
  if (size > 0 && count > SIZE_MAX / size) return NULL;
  void* memory = npi_malloc(count * size);
  if (memory != NULL) memset(memory, 0, count * size);
  return memory;
}

void* npi_realloc(void* memory, size_t size) {
  return alloc_realloc(memory, size > 0 ? size : 1);
}

void npi_free(void* memory) {
  if (memory != NULL) alloc_free(memory);
}
