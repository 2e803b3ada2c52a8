/*
 * The rules of a pipe as a small machine without any I/O: one instance, its
 * server's end and its client's. Written from the rules (docs/semantics.md) and
 * npipe.h, not from the library, so that the two can be compared.
 *
 *   model       what state the pipe is in, and what is owed to the program
 *   step        one call of the API by one end
 *   answer      what the call returns
 *   event       a callback
 *
 * After model_apply() the events in `due` are those that have to come now, no
 * more and no less, in the order in which they come for each kind.
 *
 * model_choose() makes a step by chance; model_chance.c lists where it does not
 * go. model_play.h acts a conversation out.
 */
#ifndef TESTS_SUPPORT_MODEL_H
#define TESTS_SUPPORT_MODEL_H

#include <stdbool.h>

#include <npipe.h>

#include "pattern.h"

enum {
  MODEL_ITEMS_MAX = 16, /* writes of one end that are not read yet */
  MODEL_OPS_MAX = 6,    /* of a kind that are pending at one end */
  MODEL_DUE_MAX = 80
};

/* Unix: so much of a byte pipe can be read for sure, if it was written; how
 * much more depends on when the reader reports (WR4). */
#define MODEL_WINDOW_BYTES 65536u

typedef enum model_side { MODEL_SERVER = 0, MODEL_CLIENT = 1 } model_side;

typedef enum model_state {
  MODEL_GONE,      /* closed */
  MODEL_OPEN,      /* has a peer, or has had one */
  MODEL_LINGERING, /* closed by its program; pending writes go on */
  MODEL_LISTENING, /* server's end */
  MODEL_OUT        /* disconnected */
} model_state;

/* What a pipe is. The arrays are by side. */
typedef struct model_pipe {
  npipe_type type;
  npipe_direction direction;
  npipe_read_mode mode[2]; /* BYTES or MESSAGES, at first */
  size_t quota[2];         /* of what this side writes */
  size_t message_max;
} model_pipe;

/* A write that was not read to its end. */
typedef struct model_item {
  unsigned op;     /* 0: has no callback */
  unsigned number; /* of its lane, counted from 1 */
  uint32_t seed;   /* of the pattern that it holds */
  size_t size;
  size_t taken;
  bool request; /* of a transaction */
  bool done;    /* the write is over; the data is not */
} model_item;

/* One direction. The first `inside` items are in the pipe and can be read; of
 * these only the last one can be pending. Those behind it are held back. */
typedef struct model_lane {
  size_t quota;
  unsigned last; /* the number of the latest item */
  size_t count;
  size_t inside;
  model_item items[MODEL_ITEMS_MAX];
} model_lane;

typedef struct model_op {
  unsigned id;
  size_t size;    /* of a read */
  bool transact;  /* a read that is a transaction's reply */
  unsigned after; /* of a flush: the number of the last item before it */
} model_op;

typedef struct model_queue {
  size_t count;
  model_op ops[MODEL_OPS_MAX];
} model_queue;

typedef struct model_end {
  model_state state;
  npipe_read_mode mode;
  bool can_read;
  bool can_write;
  model_queue reads;
  model_queue flushes;
  model_queue listens;
  model_lane out; /* what this end has written */
} model_end;

typedef enum model_what {
  MODEL_DID_READ, /* also a transaction */
  MODEL_DID_WRITE,
  MODEL_DID_FLUSH,
  MODEL_DID_LISTEN,
  MODEL_DID_CONNECT,
  MODEL_DID_CLOSE
} model_what;

typedef struct model_event {
  model_what what;
  model_side side;
  unsigned op; /* 0 for a close */
  int status;
  size_t size;     /* of a read */
  unsigned flags;  /* of a read */
  uint32_t digest; /* of what was read */
} model_event;

typedef struct model {
  model_pipe pipe;
  model_end ends[2];
  unsigned finished[2]; /* an operation of this side that is over, or 0 */
  size_t due_count;
  model_event due[MODEL_DUE_MAX];
} model;

typedef enum model_verb {
  MODEL_READ,
  MODEL_WRITE,
  MODEL_TRY_WRITE,
  MODEL_PEEK,
  MODEL_TRANSACT,
  MODEL_FLUSH,
  MODEL_SET_MODE,
  MODEL_CANCEL,
  MODEL_CANCEL_READS, /* npipe_cancel() of 0 */
  MODEL_INFO,
  MODEL_LISTEN,
  MODEL_DISCONNECT,
  MODEL_CONNECT, /* a new client for the instance that listens */
  MODEL_KNOCK,   /* a stranger's connect while nothing listens */
  MODEL_CLOSE,
  MODEL_CLOSE_NOW, /* with a linger time of 0 */
  MODEL_ABORT,
  MODEL_VERBS
} model_verb;

typedef struct model_step {
  model_verb verb;
  model_side side;
  unsigned op;    /* the number of a new operation; that to cancel */
  size_t size;    /* of data, or of room for it */
  uint32_t seed;  /* of what is written */
  size_t request; /* bytes of a transaction's request; its reply has `size` */
  npipe_read_mode mode;
} model_step;

typedef struct model_answer {
  int status;
  /* peek */
  npipe_peek_info peek;
  uint32_t digest;
  bool exact;       /* else: peek.available and at most `most` can be read */
  size_t most;      /* bytes, when all that is held back is counted, too */
  bool has_counted; /* peek.messages is meant */
  /* info */
  npipe_state state;
  npipe_read_mode mode;
} model_answer;

/* A pipe whose client has just connected. */
void model_begin(model* m, const model_pipe* pipe);

/* What the rules say to this call. It has to be one that model_allows(). */
model_answer model_apply(model* m, const model_step* step);

/* Bytes of the writes of this end that are pending. */
size_t model_queued(const model* m, model_side side);

/* Questions of the generator's and the driver's. */
model_side model_other(model_side side);
bool model_writes_pending(const model_lane* lane);
bool model_transacts(const model_end* end);
size_t model_unread(const model_lane* lane);     /* that can be read */
size_t model_held_bytes(const model_lane* lane); /* behind these */
bool model_is_over(const model* m);

/* The digest of bytes, one part after the other. */
#define MODEL_DIGEST_START 2166136261u
uint32_t model_digest(uint32_t digest, const void* data, size_t size);
uint32_t model_digest_pattern(uint32_t digest, uint32_t seed, size_t start,
                              size_t size);

/* ---- for the files of the model: the parts of it */

void model_owe(model* m, model_event event);
/* Lets happen what can: writes go in, reads are served, flushes end. */
void model_advance(model* m);
void model_write_push(model* m, model_side side, const model_item* item);
/* Ends a pending write, held back or (done: false) not. */
void model_write_drop(model* m, model_side side, size_t index, int status);
/* Ends every write of this side that is not over; with all, what is over is
 * lost, too. */
void model_writes_fail(model* m, model_side side, int status, bool all);
void model_ops_end(model* m, model_side side, model_what what, int status);
model_queue* model_queue_of(model_end* end, model_what what);
/* The end is no more, and its peer finds out. */
void model_end_gone(model* m, model_side side);

/* ---- the generator */

typedef struct model_taste {
  bool beyond_wine; /* goes where Wine 8 differs from Windows, too */
} model_taste;

void model_choose_pipe(model_pipe* pipe, test_chance* chance);
/* A step of the middle of a conversation; next is the number of the next
 * operation. */
model_step model_choose(const model* m, model_taste taste, unsigned next,
                        test_chance* chance);
/* A step towards the end: closes, or reads what is left. */
model_step model_choose_last(const model* m, unsigned next,
                             test_chance* chance);

#endif /* TESTS_SUPPORT_MODEL_H */
