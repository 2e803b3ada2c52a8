/*
 * Frames on a Unix pipe: bytes in, events out, and back. docs/wire-format.md
 * describes them for people who write a peer; this is the same in C.
 *
 * Pure functions: no I/O, no allocation, no clock. A decoder may be fed in any
 * pieces, one byte at a time or many frames at once, and gives the same
 * events. Data is not copied: an event points into what was fed.
 */
#ifndef NPI_UNIX_CODEC_H
#define NPI_UNIX_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NPI_WIRE_VERSION 1u
#define NPI_HEADER_BYTES 8u
#define NPI_CHUNK_BYTES_MAX 262144u /* of payload in one DATA frame */

/* Beyond the quota a byte pipe may carry this much that was not read. */
#define NPI_WINDOW_BYTES 65536u
/* The most messages that may be unread in one direction. */
#define NPI_UNREAD_MESSAGES_MAX 65536u

typedef enum npi_frame {
  NPI_FRAME_HELLO = 1,
  NPI_FRAME_WELCOME = 2,
  NPI_FRAME_REFUSE = 3,
  NPI_FRAME_DATA = 4,
  NPI_FRAME_CONSUMED = 5,
  NPI_FRAME_ASK = 6,
  NPI_FRAME_DISCONNECT = 7,
  NPI_FRAME_WITHDRAW = 8,
  NPI_FRAME_STATUS = 9,
  NPI_FRAME_WAIT = 10,
  NPI_FRAME_JOIN = 11, /* these four between servers that share a name */
  NPI_FRAME_JOINED = 12,
  NPI_FRAME_ROOM = 13,
  NPI_FRAME_TAKE = 14
} npi_frame;
/* A set of them. */
#define NPI_FRAMES(frame) (1u << (frame))

#define NPI_FLAG_FIRST 1u
#define NPI_FLAG_LAST 2u

/* ---- the handshake: whole frames */

#define NPI_ACCESS_READ 1u
#define NPI_ACCESS_WRITE 2u
#define NPI_HELLO_WAIT_FOREVER 0xFFFFFFFFu
#define NPI_HELLO_WAIT_DEFAULT 0xFFFFFFFEu
#define NPI_HELLO_NAME_MAX 767u /* bytes */
#define NPI_HELLO_BYTES_MAX (NPI_HEADER_BYTES + 24u + NPI_HELLO_NAME_MAX)
#define NPI_WELCOME_BYTES (NPI_HEADER_BYTES + 32u)
#define NPI_REFUSE_BYTES (NPI_HEADER_BYTES + 8u)
#define NPI_STATUS_BYTES (NPI_WELCOME_BYTES + 8u)
#define NPI_WAIT_BYTES (NPI_HEADER_BYTES + 8u)
/* No answer is shorter. */
#define NPI_ANSWER_BYTES_MIN NPI_REFUSE_BYTES

typedef struct npi_hello {
  uint16_t version;
  uint8_t access; /* NPI_ACCESS_*; 0: only a question */
  bool join;      /* it is a JOIN */
  uint32_t wait_ms;
  uint32_t pid;
  uint32_t message_max_bytes;
  char name[NPI_HELLO_NAME_MAX + 1]; /* folded */
} npi_hello;

typedef struct npi_welcome {
  uint16_t version;
  uint8_t type;      /* npipe_type */
  uint8_t direction; /* npipe_direction */
  uint32_t in_quota;
  uint32_t out_quota;
  uint32_t message_max_bytes;
  uint32_t max_instances;
  uint32_t default_wait_ms;
  uint32_t pid;
  bool shared; /* several servers have the name */
  /* STATUS only */
  uint32_t instances; /* in use */
  bool listens;       /* one can take a client */
} npi_welcome;

/* What a REFUSE says, in Windows' numbers. */
typedef enum npi_refusal {
  NPI_REFUSAL_NAME = 2,     /* no such pipe */
  NPI_REFUSAL_ACCESS = 5,   /* user or direction */
  NPI_REFUSAL_VERSION = 50, /* not a version the server speaks */
  NPI_REFUSAL_TIMEOUT = 121,
  NPI_REFUSAL_BUSY = 231
} npi_refusal;

/* Each writes one frame and returns its length. out has the room named
 * above. */
size_t npi_encode_hello(uint8_t* out, const npi_hello* hello);
size_t npi_encode_welcome(uint8_t* out, const npi_welcome* welcome);
size_t npi_encode_refuse(uint8_t* out, uint32_t code);
size_t npi_encode_status(uint8_t* out, const npi_welcome* status);
size_t npi_encode_wait(uint8_t* out, uint32_t ms);

/* How long the handshake frame is of which `size` bytes are there: 0 = too few
 * bytes to tell; UV_EPROTO if it cannot be one of these frames. */
int npi_shake_length(const uint8_t* in, size_t size, unsigned frames,
                     size_t* length);
/* How many bytes more may be read of an answer without touching what follows
 * it. */
size_t npi_answer_room(const uint8_t* in, size_t size);

/* Each reads one whole frame. 0 or UV_EPROTO. A HELLO of another version is
 * read as far as every version is the same: version is set. */
int npi_decode_hello(const uint8_t* in, size_t size, npi_hello* hello);
int npi_decode_welcome(const uint8_t* in, size_t size, npi_welcome* welcome);
int npi_decode_refuse(const uint8_t* in, size_t size, uint32_t* code);
int npi_decode_status(const uint8_t* in, size_t size, npi_welcome* status);
int npi_decode_wait(const uint8_t* in, size_t size, uint32_t* ms);

/* ---- between servers: all of one size */

#define NPI_TEAM_BYTES (NPI_HEADER_BYTES + 8u)

typedef struct npi_team_frame {
  npi_frame frame; /* JOINED, ROOM, TAKE */
  uint32_t a; /* ROOM: TAKEs seen so far. TAKE: the slot, from 1; 0: none */
  uint32_t b; /* ROOM: new and, shifted by 16, listening instances. TAKE:
                 the client's message_max_bytes */
} npi_team_frame;

size_t npi_encode_team(uint8_t* out, const npi_team_frame* frame);
int npi_decode_team(const uint8_t in[NPI_TEAM_BYTES], npi_team_frame* frame);

/* ---- after the handshake */

#define NPI_DATA_HEADER_MAX (NPI_HEADER_BYTES + 4u)
#define NPI_COUNT_BYTES (NPI_HEADER_BYTES + 16u)

/* The head of a DATA frame that carries chunk bytes. flags: FIRST, LAST; total
 * is the message's length and goes in if it is FIRST but not LAST. Returns
 * the head's length, 8 or 12. */
size_t npi_encode_data(uint8_t* out, unsigned flags, uint32_t chunk,
                       uint32_t total);
/* A CONSUMED, ASK or WITHDRAW frame: NPI_COUNT_BYTES. */
size_t npi_encode_count(uint8_t* out, npi_frame frame, uint64_t bytes,
                        uint64_t messages);
/* A DISCONNECT frame: NPI_HEADER_BYTES. */
size_t npi_encode_disconnect(uint8_t* out);

typedef enum npi_event_kind {
  NPI_EVENT_NONE, /* everything was used, more is needed */
  NPI_EVENT_DATA,
  NPI_EVENT_CONSUMED,
  NPI_EVENT_ASK,
  NPI_EVENT_DISCONNECT,
  NPI_EVENT_WITHDRAW
} npi_event_kind;

typedef struct npi_event {
  npi_event_kind kind;
  const uint8_t* data; /* DATA: a piece, inside what was fed */
  size_t size;
  bool first;     /* DATA: a message begins */
  bool last;      /* DATA: the message is complete */
  uint32_t total; /* DATA and first: the length of the message */
  uint64_t bytes; /* CONSUMED, ASK, WITHDRAW */
  uint64_t messages;
} npi_event;

typedef struct npi_decoder {
  bool messages;   /* a message pipe */
  bool in_payload; /* between a DATA head and the end of its frame */
  bool in_message; /* between FIRST and LAST */
  uint8_t flags;   /* of the current frame */
  uint8_t head_have;
  uint8_t head[NPI_COUNT_BYTES];
  uint32_t frame_left;
  uint32_t message_left; /* of what the first frame announced */
  uint32_t message_max;
} npi_decoder;

void npi_decoder_init(npi_decoder* decoder, bool messages,
                      uint32_t message_max);

/* Uses bytes from in, says how many, and gives at most one event. Call it
 * until it gives NPI_EVENT_NONE. 0; UV_EPROTO: not our protocol; UV_EMSGSIZE:
 * a message beyond message_max. After an error the decoder is of no use. */
int npi_decode(npi_decoder* decoder, const uint8_t* in, size_t size,
               size_t* used, npi_event* event);

/* How many bytes of pure payload come next, so that they can be read to where
 * they belong; 0 if a head comes next. */
size_t npi_decoder_payload(const npi_decoder* decoder);

#endif /* NPI_UNIX_CODEC_H */
