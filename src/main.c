/* SPDX-License-Identifier: Apache-2.0 */
#include "node/start.h"

int main(int argc, char **argv) {
    return node_main(argc, argv, NOVA_KMS_VERSION);
}
