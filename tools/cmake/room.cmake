# A room: one folder under src/, one static library, and an include path that shows it only the
# rooms it names. An include of any other room does not compile.
#
#   nova_room(<name> SOURCES <file>... [ROOMS <room>...] [LIBRARIES <target>...])
function(nova_room name)
  cmake_parse_arguments(ROOM "" "" "SOURCES;ROOMS;LIBRARIES" ${ARGN})
  set(view ${CMAKE_BINARY_DIR}/rooms/${name})
  file(MAKE_DIRECTORY ${view})
  file(CREATE_LINK ${CMAKE_CURRENT_SOURCE_DIR} ${view}/${name} SYMBOLIC)
  add_library(${name} STATIC ${ROOM_SOURCES})
  target_include_directories(${name} PUBLIC ${view})
  target_link_libraries(${name} PUBLIC ${ROOM_ROOMS} ${ROOM_LIBRARIES} PRIVATE nova_warnings)
endfunction()
