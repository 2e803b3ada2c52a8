/*
 * Who is at the other end of a socket (ID1). Each system has a call of its
 * own; none of them can be fooled by the peer.
 *
 * Linux: of a client's socket it names the process that called connect(); of
 * a server's, the one that called listen().
 */
#include <errno.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "sock.h"

#if defined(SO_PEERCRED) && defined(__linux__)
int npi_sock_peer(int fd, npi_peer* peer) {
  struct ucred credentials;
  socklen_t size = sizeof credentials;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size) < 0)
    return -errno;
  peer->uid = credentials.uid;
  peer->gid = credentials.gid;
  peer->pid = credentials.pid;
  return 0;
}
#else
int npi_sock_peer(int fd, npi_peer* peer) {
  peer->pid = 0;
  if (getpeereid(fd, &peer->uid, &peer->gid) < 0) return -errno;
#ifdef LOCAL_PEERPID
  socklen_t size = sizeof peer->pid;
  if (getsockopt(fd, SOL_LOCAL, LOCAL_PEERPID, &peer->pid, &size) < 0)
    peer->pid = 0;
#endif
  return 0;
}
#endif
