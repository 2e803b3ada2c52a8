/*
 * The server throws its client out (DI1 to DI3).
 *
 * Everything unread goes, in both directions: ours at once, the client's when
 * its library sees the DISCONNECT frame. The connection lives on without a
 * transport until npi_os_listen() brings another socket, or it is closed; it
 * keeps its instance and its loop alive.
 *
 * The frame must be in the socket before the socket ends, and it must be the
 * reason that the client finds: so the client, when a send fails, reads what is
 * left before it says why (send.c).
 */
#include "unix.h"

static void instance_throw_out(npi_unix_conn* conn) {
  bool told = conn->link == NPI_LINK_UP && npi_send_disconnect(conn);
  npi_send_end(conn, UV_ECONNABORTED);
  npi_rxq_clear(&conn->rxq);
  conn->rx_end = 0;
  npi_conn_strip(conn, !told);
  npi_conn_keep_alive(conn);
}

int npi_os_disconnect(npipe_conn* base) {
  npi_unix_conn* conn = (npi_unix_conn*) base;
  if (conn->plain) return UV_ENOTSUP;
  /* A client may have come this moment, before the program was told. */
  bool listens = base->state == NPI_CONN_LISTENING;
  if (listens) npi_server_unlisten(conn);
  if (!listens || conn->link == NPI_LINK_UP) instance_throw_out(conn);
  return 0;
}
