# layer(NAME DEPS…): the folder NAME as the library moiety_NAME, and its *_test.cc files as the program NAME_test.
function(layer name)
  file(GLOB sources CONFIGURE_DEPENDS ${name}/*.cc)
  set(tests ${sources})
  list(FILTER sources EXCLUDE REGEX "_test\\.cc$")
  list(FILTER tests INCLUDE REGEX "_test\\.cc$")

  if(EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/${name}/build.cmake)
    include(${name}/build.cmake)  # a folder that is more than one plain library says so itself
    return()
  endif()

  add_library(moiety_${name} STATIC ${sources})
  target_include_directories(moiety_${name} PUBLIC ${CMAKE_CURRENT_SOURCE_DIR})
  foreach(dep ${ARGN})
    target_link_libraries(moiety_${name} PUBLIC moiety_${dep})
  endforeach()
  if(MOIETY_TESTS AND tests)
    layer_tests(${name} ${tests})
  endif()
endfunction()

function(layer_tests name)
  add_executable(${name}_test ${ARGN})
  target_link_libraries(${name}_test PRIVATE moiety_${name} GTest::gtest GTest::gtest_main rapidcheck)
  target_compile_definitions(${name}_test PRIVATE MOIETY_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
  gtest_discover_tests(${name}_test DISCOVERY_TIMEOUT 60)
endfunction()
