# The libraries, as imported targets under one spelling on both Debians.
include_guard()
set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)
find_package(PkgConfig REQUIRED)

# nova_pkg(<target> <pkg-config module>)
function(nova_pkg target module)
  string(MAKE_C_IDENTIFIER ${module} id)
  pkg_check_modules(${id} REQUIRED IMPORTED_TARGET GLOBAL ${module})
  add_library(${target} ALIAS PkgConfig::${id})
endfunction()

nova_pkg(Jansson::Jansson jansson)
nova_pkg(Uv::Uv libuv)
nova_pkg(Curl::Curl libcurl)
nova_pkg(Nettle::Nettle nettle)
nova_pkg(ProtobufC::ProtobufC libprotobuf-c)
nova_pkg(Secp256k1::Secp256k1 libsecp256k1)

# nova_library(<target> <library name> <a header of it>): for those without pkg-config.
function(nova_library target name header)
  string(MAKE_C_IDENTIFIER ${name} id)
  find_library(${id}_LIBRARY ${name} REQUIRED)
  find_path(${id}_INCLUDE ${header} REQUIRED)
  add_library(${target} UNKNOWN IMPORTED GLOBAL)
  set_target_properties(${target} PROPERTIES
    IMPORTED_LOCATION ${${id}_LIBRARY} INTERFACE_INCLUDE_DIRECTORIES ${${id}_INCLUDE})
endfunction()

# Debian 12's mbedTLS 2.28 has neither pkg-config nor CMake files.
nova_library(MbedTLS::mbedcrypto mbedcrypto mbedtls/version.h)
nova_library(MbedTLS::mbedx509 mbedx509 mbedtls/version.h)
nova_library(MbedTLS::mbedtls mbedtls mbedtls/version.h)
target_link_libraries(MbedTLS::mbedx509 INTERFACE MbedTLS::mbedcrypto)
target_link_libraries(MbedTLS::mbedtls INTERFACE MbedTLS::mbedx509)
nova_library(HttpParser::HttpParser http_parser http_parser.h)

find_package(nanopb CONFIG REQUIRED)
if(NOVA_TESTS)
  nova_pkg(Cmocka::Cmocka cmocka)
endif()
