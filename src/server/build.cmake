# The network's libraries are headers: their bodies are compiled once, in asio.cc, and what all files read is precompiled.
add_library(moiety_server STATIC ${sources})
target_include_directories(moiety_server PUBLIC ${CMAKE_CURRENT_SOURCE_DIR})
foreach(dep ${ARGN})
  target_link_libraries(moiety_server PUBLIC moiety_${dep})
endforeach()
target_link_libraries(moiety_server PUBLIC Boost::headers OpenSSL::SSL OpenSSL::Crypto)
target_compile_definitions(moiety_server PUBLIC BOOST_ASIO_SEPARATE_COMPILATION BOOST_BEAST_SEPARATE_COMPILATION BOOST_ASIO_NO_DEPRECATED)
target_precompile_headers(moiety_server PRIVATE
  <boost/asio/awaitable.hpp> <boost/asio/co_spawn.hpp> <boost/asio/steady_timer.hpp> <boost/asio/use_awaitable.hpp> <fmt/core.h>
  <functional> <map> <string> <vector>)
set_source_files_properties(server/asio.cc PROPERTIES SKIP_PRECOMPILE_HEADERS ON)
include(${CMAKE_CURRENT_SOURCE_DIR}/server/page.cmake)
if(MOIETY_TESTS AND tests)
  layer_tests(server ${tests})
endif()
if(MOIETY_SANITIZE MATCHES "thread" AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  target_compile_options(moiety_server PUBLIC -Wno-tsan)  # it says of each fence that it can't see it; asio's locks it can
endif()
if(MOIETY_SANITIZE MATCHES "undefined" AND CMAKE_CXX_COMPILER_ID MATCHES "Clang")
  target_compile_options(moiety_server PUBLIC -fno-sanitize=function)  # clang 14 can't have it and coroutines in one file
endif()
