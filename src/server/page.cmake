# The web page becomes part of the library: as web/build.sh bundled it, or a few lines that say how to.
set(page_dir ${CMAKE_CURRENT_BINARY_DIR}/page)
set(page_files ${page_dir}/page.html ${page_dir}/page.html.gz ${page_dir}/page.csp)
add_custom_target(web_page BYPRODUCTS ${page_files}
  COMMAND ${CMAKE_COMMAND} -DSOURCE=${CMAKE_SOURCE_DIR} -DTO=${page_dir} -P ${CMAKE_CURRENT_LIST_DIR}/take_page.cmake)
add_dependencies(moiety_server web_page)
set_source_files_properties(server/page_bytes.cc PROPERTIES
  OBJECT_DEPENDS "${page_files}" COMPILE_DEFINITIONS MOIETY_PAGE_DIR="${page_dir}" SKIP_PRECOMPILE_HEADERS ON)
