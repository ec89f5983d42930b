# SPDX-License-Identifier: Apache-2.0
# The node as it is deployed: the production build, and of Debian only the libraries it needs. Its
# trust roots are build arguments:
#
#   docker build -t nova-kms:latest \
#     --build-arg NOVA_KMS_APP_REGISTRY=0x... --build-arg NOVA_KMS_REGISTRY=0x... .
#
# It needs leave to lock its memory: docker run --ulimit memlock=-1:-1. In an enclave the platform's
# supervisor starts it as root, which has it.
#
# tools/image runs these steps without Docker, and knows only FROM, ARG, ENV, WORKDIR, COPY, RUN,
# USER, EXPOSE and ENTRYPOINT.

# A tag can be moved. Whoever has a registry adds the digest that this tag has there:
# debian:13.7-slim@sha256:...
ARG BASE=debian:13.7-slim

# All packages of both stages, those of the base image included, are brought to the versions of one
# day, up or down. So the compiler and the libraries, and with them the node, are the same for
# everyone, whenever the image is built.
FROM ${BASE} AS base
ARG SNAPSHOT=20260914T000000Z
ARG DEBIAN_MIRROR=http://snapshot.debian.org/archive/debian/${SNAPSHOT}
ARG SECURITY_MIRROR=http://snapshot.debian.org/archive/debian-security/${SNAPSHOT}
RUN rm -f /etc/apt/sources.list.d/* \
    && echo "deb [check-valid-until=no] ${DEBIAN_MIRROR} trixie main" > /etc/apt/sources.list \
    && echo "deb [check-valid-until=no] ${SECURITY_MIRROR} trixie-security main" >> /etc/apt/sources.list \
    && printf 'Package: *\nPin: release o=Debian\nPin-Priority: 1001\n' > /etc/apt/preferences.d/snapshot \
    && apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get dist-upgrade -y --allow-downgrades --no-install-recommends

FROM base AS build
RUN DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
    gcc libc6-dev cmake ninja-build pkgconf libmbedtls-dev nettle-dev libuv1-dev \
    libcurl4-openssl-dev libjansson-dev libprotobuf-c-dev libnanopb-dev libsecp256k1-dev libhttp-parser-dev uthash-dev
WORKDIR /nova-kms
COPY CMakeLists.txt ./
COPY gen gen/
COPY src src/
COPY tools tools/
ARG NOVA_KMS_CHAIN_ID=84532
ARG NOVA_KMS_APP_ID=49
ARG NOVA_KMS_APP_REGISTRY=0x0f68E6e699f2E972998a1EcC000c7ce103E64cc8
ARG NOVA_KMS_REGISTRY=0x6a28D24c9AEcdceC9B021ee6960FdDE592796af7
ARG NOVA_KMS_ODYN_URL=http://127.0.0.1:18000
RUN cmake -S . -B build -G Ninja -DNOVA_KMS_PRODUCTION=ON -DNOVA_TESTS=OFF \
    -DNOVA_KMS_CHAIN_ID="${NOVA_KMS_CHAIN_ID}" -DNOVA_KMS_APP_ID="${NOVA_KMS_APP_ID}" \
    -DNOVA_KMS_APP_REGISTRY="${NOVA_KMS_APP_REGISTRY}" -DNOVA_KMS_REGISTRY="${NOVA_KMS_REGISTRY}" \
    -DNOVA_KMS_ODYN_URL="${NOVA_KMS_ODYN_URL}" \
    && ninja -C build nova-kms \
    && cmake --install build --component node --prefix /image --strip

FROM base
RUN DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
    libmbedtls21 libmbedx509-7 libmbedcrypto16 libnettle8t64 libuv1t64 libcurl4t64 libjansson4 libprotobuf-c1 \
    libsecp256k1-2 libhttp-parser2.9 \
    && rm -rf /var/lib/apt/lists/* /var/cache/* /var/log/* /tmp/*
COPY --from=build /image/bin/nova-kms /usr/local/bin/nova-kms
# The public URL is the node's own. Where the enclave's runtime cannot set it, it is built in, and
# each node's image has a measurement of its own.
ARG NODE_URL=
ENV NODE_URL=${NODE_URL}
USER 10001:10001
EXPOSE 8443 8000
ENTRYPOINT ["/usr/local/bin/nova-kms"]
