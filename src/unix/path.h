/*
 * Where a name lives: NAME and scope to the paths of its files, and whether
 * the directory can be trusted. docs/names.md tells it to users.
 */
#ifndef NPI_UNIX_PATH_H
#define NPI_UNIX_PATH_H

#include "internal.h"
#include "sock.h"

#define NPI_FILE_BYTES 40 /* of a file name made from NAME, with its NUL */

typedef struct npi_path {
  char directory[NPI_SOCK_PATH_MAX + 1]; /* "" for a plain path */
  char socket[NPI_SOCK_PATH_MAX + 1];
  char lock[NPI_SOCK_PATH_MAX + 8];
  char share[NPI_SOCK_PATH_MAX + 8]; /* "" for a plain path */
} npi_path;

/* The file name (without suffix) of a folded name: the name itself in small
 * letters if that is a harmless file name of at most 32 bytes, else '~' and 31
 * hexadecimal digits of its SHA-256. Pure. */
void npi_path_file(const char* folded, char file[NPI_FILE_BYTES]);

/* The paths of NAME in a scope (USER or MACHINE). Touches no file.
 * UV_ENAMETOOLONG if the directory leaves no room, UV_EINVAL if a variable
 * that names it is not absolute. */
int npi_path_of_name(npi_path* path, const npi_name* name, npipe_scope scope);

/* The paths of a plain pipe. UV_ENAMETOOLONG, UV_EINVAL. */
int npi_path_of_plain(npi_path* path, const char* plain);

/* Makes the directory if it is missing, private to the user. */
int npi_path_make_directory(const npi_path* path);

/* Is the directory one that only its owner, this user or root, can change
 * (or, machine-wide, a sticky one of root's)? 0, UV_ENOENT, UV_EACCES. */
int npi_path_check_directory(const npi_path* path, npipe_scope scope);

#endif /* NPI_UNIX_PATH_H */
