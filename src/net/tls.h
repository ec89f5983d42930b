/* SPDX-License-Identifier: Apache-2.0 */
/* TLS as an engine over byte buffers (mbedTLS underneath): it opens no socket and reads no clock
 * but the one it is given, so one wake-up costs one read() and one write(), and tests run it in
 * memory. TLS 1.3 where the library has it, 1.2 with extended master secret as the floor;
 * AES-256-GCM, X25519 and P-256 only; no renegotiation, tickets, resumption or early data.
 *
 * A tls_config may be used by several threads at once; a tls session belongs to one at a time. */
#pragma once

#include "base/bytes.h"
#include "base/status.h"
#include "identity/binding.h"
#include "identity/credential.h"

/* What ALPN offers (docs/protocol.md, section 2). */
#define TLS_ALPN_NOVAKMS "novakms/1"
#define TLS_ALPN_HTTP "http/1.1"

/* One record's payload, and room for one record on the wire. */
#define TLS_PLAIN_BYTES_MAX ((size_t)16384)
#define TLS_RECORD_BYTES_MAX (TLS_PLAIN_BYTES_MAX + 512)

struct tls;        /* One session. Opaque. */
struct tls_config; /* What the sessions of one credential share. Counted references. Opaque. */

/* How a peer's certificate is judged, and when "now" is. */
struct tls_verify_cfg {
    uint64_t chain_id;
    uint64_t skew_s;
    /* Unix seconds; called once for each peer certificate, from the handshake's thread. NULL: the
     * process's own clock. */
    uint64_t (*now_unix_s)(void *ctx);
    void *ctx;
};

struct tls_server_cfg {
    struct identity_credential *credential; /* One reference is added. */
    struct tls_verify_cfg verify;
    const char *const *alpn; /* NULL-terminated, in order of preference; lent for good. */
};

/* Gives *out with one reference. A client's certificate is asked for with an empty CA list and is
 * never refused inside the handshake: ask tls_peer and tls_peer_why afterwards. CRYPTO, NOMEM. */
RC tls_config_server(struct tls_config **out, const struct tls_server_cfg *cfg);

struct tls_client_cfg {
    struct identity_credential *credential; /* One reference is added. NULL: an anonymous client. */
    struct tls_verify_cfg verify;
    const char *alpn; /* The one protocol to speak; lent for good. */
    /* Nothing older, where the TLS library has it: 1.2 shows this side's wallet. */
    bool needs_tls13;
};

/* The same for clients. The server's binding is checked inside the handshake, before this side
 * proves anything about itself; see tls_client_init. CRYPTO, NOMEM. */
RC tls_config_client(struct tls_config **out, const struct tls_client_cfg *cfg);

/* One more reference. Any thread. */
struct tls_config *tls_config_ref(struct tls_config *config);
/* Takes one reference, sets NULL. Accepts NULL in it. Any thread. */
void tls_config_close(struct tls_config **config);
/* Lends what it was made with; NULL for an anonymous client. */
struct identity_credential *tls_config_credential(const struct tls_config *config);

/* Whether a server's wallet is one to talk to. Called inside the handshake after its binding was
 * found good. Must not block. Anything but OK ends the handshake; *why gets the sentence. */
typedef RC (*tls_check_cb)(void *ctx, const struct identity_peer *peer, struct status *why);

/* Gives *out, NULL on error; adds a reference to config. NOMEM, CRYPTO. */
RC tls_server_init(struct tls **out, struct tls_config *config);
/* check is required. host goes into the server name indication when it is a DNS name, NULL:
 * none. */
RC tls_client_init(struct tls **out, struct tls_config *config, const char *host,
                   tls_check_cb check, void *ctx);
/* Wipes and frees, sets NULL. Accepts NULL in it. Sends nothing: see tls_finish. */
void tls_close(struct tls **tls);

/* Ciphertext in and out of one step. Both are lent for the step; `in` moves past what was taken,
 * and `out.len` grows by what is to be sent. */
struct tls_io {
    struct reader in;
    struct writer out;
};

/* Moves the handshake on. OK when it is finished (io->in may hold more). AGAIN when it needs bytes
 * from the peer, or room in io->out; what is in io->out must be sent either way, after errors too
 * (an alert). BAD_AUTH when the peer was refused, MALFORMED for a peer that speaks no TLS we
 * accept, CLOSED when it hung up, NOMEM, CRYPTO; tls_why says it in a sentence. */
RC tls_handshake(struct tls *tls, struct tls_io *io);
/* Decrypts into buf. AGAIN when io->in is used up without more plaintext; OK gives *len > 0.
 * CLOSED after the peer's close_notify, MALFORMED for a broken record. */
RC tls_read(struct tls *tls, struct tls_io *io, uint8_t *buf, size_t bytes, size_t *len);
/* Encrypts plain into records, as much of it as io->out has room for: OK gives *len, 0 when there
 * is less room than TLS_RECORD_BYTES_MAX. CRYPTO; the session is broken then. */
RC tls_write(struct tls *tls, struct tls_io *io, struct span plain, size_t *len);
/* Writes a close_notify, TLS_RECORD_BYTES_MAX of room at most. */
void tls_finish(struct tls *tls, struct tls_io *io);

/* Whether its handshake is finished. */
bool tls_is_up(const struct tls *tls);
/* After the handshake. The protocol both sides chose; NULL when the client offered none. */
const char *tls_alpn(const struct tls *tls);
/* Whose wallet the peer's certificate proved; NULL when it showed none, or a bad one. Lent until
 * tls_close. */
const struct identity_peer *tls_peer(const struct tls *tls);
/* Whether the peer showed a certificate at all. */
bool tls_peer_has_certificate(const struct tls *tls);
/* Why tls_peer is NULL, or why a client refused the server: UNAUTHENTICATED and a sentence, or what
 * check said. Code OK when there is nothing to say. Lent until tls_close. */
const struct status *tls_peer_why(const struct tls *tls);
/* Why the last call failed, in a sentence. Lent until the next call. */
const char *tls_why(const struct tls *tls);
/* 12 or 13. */
int tls_version(const struct tls *tls);
