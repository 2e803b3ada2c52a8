/* SHA-256 (FIPS 180-4), for names that cannot be file names. */
#ifndef NPI_UNIX_SHA256_H
#define NPI_UNIX_SHA256_H

#include <stddef.h>
#include <stdint.h>

#define NPI_SHA256_BYTES 32

/* The digest of size bytes, size < 2^32. */
void npi_sha256(const void* data, size_t size,
                uint8_t digest[NPI_SHA256_BYTES]);

#endif /* NPI_UNIX_SHA256_H */
