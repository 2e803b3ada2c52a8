/* An open pipe between npipe and a raw peer, in either role. */
#ifndef TESTS_SUPPORT_UNIX_RAW_LINK_H
#define TESTS_SUPPORT_UNIX_RAW_LINK_H

#include "raw_peer.h"

#define RAW_QUOTA 65536u /* of both directions */

typedef struct raw_link {
  test_host* host; /* NULL: npipe is the client */
  test_end* end;   /* npipe's */
  int listener;    /* -1: npipe is the server */
  raw_peer raw;
} raw_link;

raw_link link_to_server(world* w, npipe_type type);
raw_link link_to_client(world* w, npipe_type type);
/* The first if `server`, else the second. */
raw_link link_open(world* w, npipe_type type, bool server);
void link_close(world* w, raw_link* link);

#endif /* TESTS_SUPPORT_UNIX_RAW_LINK_H */
