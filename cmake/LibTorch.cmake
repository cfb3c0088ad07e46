# Imported target `libtorch` from the torch wheel or any LibTorch, without its TorchConfig.cmake, which insists on a
# CUDA toolkit when the wheel is a CUDA one. PRETRAINED_TORCH_DIR is the folder that holds include/ and lib/.
if(NOT PRETRAINED_TORCH_DIR)
  find_path(_torch_include torch/csrc/api/include/torch/torch.h
            PATH_SUFFIXES include HINTS ${CMAKE_PREFIX_PATH} NO_CACHE)
  if(_torch_include)
    get_filename_component(PRETRAINED_TORCH_DIR ${_torch_include} DIRECTORY)
  else()
    file(GLOB _torch_dirs ${PROJECT_SOURCE_DIR}/.venv/lib/python3*/site-packages/torch)
    list(GET _torch_dirs 0 PRETRAINED_TORCH_DIR)
  endif()
endif()
if(NOT EXISTS ${PRETRAINED_TORCH_DIR}/lib/libtorch_cpu.so)
  message(FATAL_ERROR "LibTorch was not found in '${PRETRAINED_TORCH_DIR}': run ./dev, or pass "
                      "-DCMAKE_PREFIX_PATH=<folder of LibTorch>")
endif()
message(STATUS "LibTorch: ${PRETRAINED_TORCH_DIR}")
if(NOT TARGET libtorch)
  foreach(part c10 torch_cpu torch)
    add_library(libtorch_${part} SHARED IMPORTED)
    set_target_properties(libtorch_${part} PROPERTIES
      IMPORTED_LOCATION ${PRETRAINED_TORCH_DIR}/lib/lib${part}.so)
  endforeach()
  add_library(libtorch INTERFACE IMPORTED)
  target_include_directories(libtorch SYSTEM INTERFACE
    ${PRETRAINED_TORCH_DIR}/include ${PRETRAINED_TORCH_DIR}/include/torch/csrc/api/include)
  # libtorch_cpu and libc10 register operators in static constructors: keep them even where no symbol is named.
  target_link_libraries(libtorch INTERFACE
    -Wl,--no-as-needed libtorch_torch libtorch_torch_cpu libtorch_c10 -Wl,--as-needed)
  target_link_options(libtorch INTERFACE -Wl,-rpath,${PRETRAINED_TORCH_DIR}/lib)
endif()
