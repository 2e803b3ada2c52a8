/*
 * Another program that the build has made, run as a process of a test: an
 * example, or a raw peer. (A copy of the test program itself is a child.h.)
 *
 * It is a thing of its world, which kills it at the end if it still runs. Its
 * standard output is kept, its standard error passed on to ours.
 */
#ifndef TESTS_SUPPORT_PROGRAM_H
#define TESTS_SUPPORT_PROGRAM_H

#include "world.h"

#define PROGRAM_PATH_BYTES 1024

typedef struct test_program {
  test_thing thing;
  world* world;
  uv_process_t process;
  uv_pipe_t out;
  uv_pipe_t err;
  char err_text[512];
  unsigned handles_open;
  unsigned exits;
  int64_t exit_code;
  char* text; /* what it has said so far, terminated by a NUL */
  size_t text_size;
  size_t text_room;
  char input_path[PROGRAM_PATH_BYTES]; /* a file of ours, or "" */
} test_program;

/* Starts the program at this place as seen from the folder of the test
 * program, without .exe: "raw_server", "../examples/server".
 *   args   its arguments without its name, ended by NULL
 *   input  the text that it finds on standard input, or NULL for nothing */
test_program* program_start(world* w, const char* place,
                            const char* const args[], const char* input);

/* The same with the arguments in a row, and nothing on standard input. */
#define PROGRAM(w, place, ...) \
  program_start((w), (place), (const char* const[]){__VA_ARGS__, NULL}, NULL)

/* Waits until it has said this; fails the test if it ends before. */
void program_await(test_program* program, const char* words);
/* Waits for its end and the end of its output; its exit code. */
int program_exit_code(test_program* program);
/* Kills it without a warning and waits for its end. */
void program_kill(test_program* program);

#endif /* TESTS_SUPPORT_PROGRAM_H */
