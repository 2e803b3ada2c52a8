/* One conversation under way, for model_act.c, which makes the calls, and
 * model_play.c, which compares. */
#ifndef TESTS_SUPPORT_MODEL_ACT_H
#define TESTS_SUPPORT_MODEL_ACT_H

#include "model_tell.h"
#include "world.h"

#define PLAY_WAIT_MS 10000u
#define PLAY_LINGER_MS 60000u /* never over in a play */
#define PLAY_SEEN_MAX (MODEL_DUE_MAX + 8)

typedef struct play_end {
  struct play* play;
  model_side side;
  npipe_conn* conn; /* NULL: closed */
} play_end;

typedef struct play_op {
  struct play_op* next;
  play_end* end;
  unsigned id;
  npipe_op name;
  unsigned char* data;
  size_t room;
} play_op;

typedef struct play {
  world* w;
  model m;
  test_chance chance;
  char name[NPIPE_NAME_BYTES];
  npipe_server* server; /* NULL: closed */
  unsigned arrivals;
  play_end ends[2];
  play_op* ops;
  npipe_conn* stranger;
  int stranger_status; /* 1: not yet */
  uv_timer_t alarm;
  bool rang;
  model_event seen[PLAY_SEEN_MAX];
  size_t seen_count;
  tell_text story;
  bool failed;
} play;

/* Runs the loop until the condition holds, or rang is true. */
#define PLAY_UNTIL(p, condition) \
  do { \
    play_wait_begin(p); \
    while (!(condition) && !(p)->rang) uv_run(&(p)->w->loop, UV_RUN_ONCE); \
    uv_timer_stop(&(p)->alarm); \
  } while (0)

void play_wait_begin(play* p);
void play_fail(play* p, const char* what);

/* Makes the call; what it returns. Not for peek and info. */
int play_call(play* p, const model_step* step);
/* Creates the server of this pipe; and what its callbacks record. */
int play_serve(play* p);
void play_serve_end(play* p);
/* Frees the operations. */
void play_forget(play* p);

#endif /* TESTS_SUPPORT_MODEL_ACT_H */
