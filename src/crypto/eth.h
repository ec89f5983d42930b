/* SPDX-License-Identifier: Apache-2.0 */
/* Ethereum's personal messages (EIP-191, version 0x45), and hashes, on secp256k1. Any thread: the
 * library's one context is made and randomized at its first use, and not changed after that. */
#pragma once

#include "base/bytes.h"
#include "base/secret.h"
#include "base/wallet.h"
#include "crypto/keccak.h"

#define ETH_KEY_BYTES 32
#define ETH_SIGNATURE_BYTES 65
/* 0x04, x, y. */
#define ETH_POINT_BYTES 65

/* r, s, v; r and s 32 bytes each, big-endian. */
struct eth_signature {
    uint8_t bytes[ETH_SIGNATURE_BYTES];
};

/* keccak256("\x19Ethereum Signed Message:\n" decimal(text.len) text). */
void eth_hash_message(struct span text, uint8_t hash[static KECCAK256_BYTES]);

/* Signs text: RFC 6979 nonce, low s, v 27 or 28. Signs anything: what came from a stranger goes
 * through identity_sign instead, which refuses identity texts. INVALID when key is not
 * ETH_KEY_BYTES of a valid private key; CRYPTO. */
RC eth_sign_message(const struct secret *key, struct span text, struct eth_signature *out);

/* Gives the wallet that signed text. v may be 0, 1, 27 or 28. MALFORMED for another v, for r or s
 * out of range, and for a high s: it is the same signature written another way, and only one
 * spelling may pass. BAD_AUTH when no key could have made it. A signature of another text gives
 * some other wallet: compare. */
RC eth_recover_message(struct span text, const struct eth_signature *signature, struct wallet *out);

/* Gives the wallet of a private key: the last 20 bytes of keccak256 of the public key. INVALID when
 * key is not ETH_KEY_BYTES of a valid private key; CRYPTO. */
RC eth_wallet_of_key(const struct secret *key, struct wallet *out);

/* Signs a hash as it is, for what brings its own encoding, as transactions. As eth_sign_message
 * otherwise: whoever signs hashes that strangers chose has given them the key. */
RC eth_sign_hash(const struct secret *key, const uint8_t hash[static KECCAK256_BYTES],
                 struct eth_signature *out);
/* As eth_recover_message, of a hash. */
RC eth_recover_hash(const uint8_t hash[static KECCAK256_BYTES],
                    const struct eth_signature *signature, struct wallet *out);
/* Gives the public key as an uncompressed point (SEC 1). Errors of eth_wallet_of_key. */
RC eth_point_of_key(const struct secret *key, uint8_t point[static ETH_POINT_BYTES]);
