/*
 * A second process: a copy of this test program that plays one of its roles
 * (harness.h). It says lines on its standard output; the test waits for them.
 */
#ifndef TESTS_SUPPORT_CHILD_H
#define TESTS_SUPPORT_CHILD_H

#include "world.h"

#define CHILD_WORD "--play" /* first argument of a child */
#define CHILD_TEXT_BYTES 512

typedef struct test_child {
  test_thing thing;
  world* world;
  uv_process_t process;
  uv_pipe_t out;
  unsigned exits;
  int64_t exit_code;
  int exit_signal;
  unsigned handles_open;
  char text[CHILD_TEXT_BYTES]; /* all it has said */
  size_t text_size;
} test_child;

/* Starts a child in the world of a test. */
test_child* child_start(world* w, const char* role, const char* argument);
/* The same as another user (os_other_user()); NULL if the system refuses. */
test_child* child_start_as(world* w, const char* role, const char* argument,
                           unsigned uid, unsigned gid);
/* Waits until the child has said this. */
void child_await(test_child* child, const char* word);
/* Kills the child without a warning and waits until it is gone. */
void child_kill(test_child* child);
/* Waits for the end of the child; its exit code. */
int child_exit_code(test_child* child);

/* In the child: says a line. */
void child_say(const char* line);

#endif /* TESTS_SUPPORT_CHILD_H */
