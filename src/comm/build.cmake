# c10d is part of libtorch; its header shows Gloo only to those who say that they have it. No header of this folder names
# libtorch: who includes them compiles as fast as ever.
add_library(moiety_comm STATIC ${sources})
target_include_directories(moiety_comm PUBLIC ${CMAKE_CURRENT_SOURCE_DIR})
target_compile_definitions(moiety_comm PRIVATE USE_C10D_GLOO USE_DISTRIBUTED)
target_link_libraries(moiety_comm PUBLIC moiety_base PRIVATE torch)
if(MOIETY_TESTS AND tests)
  layer_tests(comm ${tests})
  target_link_libraries(comm_test PRIVATE torch)
endif()
