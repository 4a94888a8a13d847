# Two libraries: the arithmetic, the data and the checkpoints, which know no torch and compile in a second or two a
# file; and the graph and the training loop, which do. libtorch is linked here and nowhere else: it brings 285 shared
# objects and half a second of start-up.
set(torch_files attention_experts consistency functions gate moe_block recompute tensor_tokens transformer validation micro_batch pipeline run selection_bias trainer)  # those that include train/torch.h
list(TRANSFORM torch_files PREPEND ${CMAKE_CURRENT_SOURCE_DIR}/train/)
list(TRANSFORM torch_files APPEND .cc)
list(REMOVE_ITEM sources ${torch_files} ${CMAKE_CURRENT_SOURCE_DIR}/train/main.cc)

add_library(moiety_train_plain STATIC ${sources})
target_include_directories(moiety_train_plain PUBLIC ${CMAKE_CURRENT_SOURCE_DIR})
target_link_libraries(moiety_train_plain PUBLIC moiety_base moiety_spec moiety_format moiety_upcycle moiety_text moiety_corpus
                      moiety_kernel moiety_moe moiety_trace moiety_runs moiety_comm PkgConfig::tomlplusplus PkgConfig::xxhash OpenMP::OpenMP_CXX)
# In the inner loops alone sums may be reordered; NaN and infinity still mean what they mean.
set_source_files_properties(train/loops.cc PROPERTIES COMPILE_OPTIONS
  "-ffp-contract=fast;-fno-math-errno;-fno-trapping-math;-fassociative-math;-fno-signed-zeros")

add_library(moiety_train STATIC ${torch_files})
target_link_libraries(moiety_train PUBLIC moiety_train_plain torch)
target_precompile_headers(moiety_train PRIVATE train/torch.h)

add_executable(moiety-train train/main.cc)
target_link_libraries(moiety-train PRIVATE moiety_train)
target_link_options(moiety-train PRIVATE -Wl,--build-id)  # by which ranks know that they are alike
target_compile_definitions(moiety-train PRIVATE MOIETY_VERSION="${PROJECT_VERSION}")
set_target_properties(moiety-train PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
install(TARGETS moiety-train RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})

if(MOIETY_TESTS AND tests)
  add_executable(train_test ${tests})
  target_link_libraries(train_test PRIVATE moiety_train GTest::gtest GTest::gtest_main rapidcheck)
  target_include_directories(train_test PRIVATE ${CMAKE_SOURCE_DIR}/tests)
  # resume_test.cc starts the program itself.
  add_dependencies(train_test moiety-train)
  target_compile_definitions(train_test PRIVATE MOIETY_SOURCE_DIR="${CMAKE_SOURCE_DIR}"
                             MOIETY_TRAIN_PROGRAM="$<TARGET_FILE:moiety-train>")
  target_precompile_headers(train_test REUSE_FROM moiety_train)
  # A precompiled header serves only code compiled with the same flags, and programs get -fPIE by themselves.
  set_target_properties(train_test PROPERTIES POSITION_INDEPENDENT_CODE OFF)
  target_compile_options(train_test PRIVATE -fPIC)
  # One entry: a process that loads libtorch starts in half a second.
  add_test(NAME train_test COMMAND train_test)
endif()
