# cmake --install: libraries, headers, the command and find_package(pretrained).
include(CMakePackageConfigHelpers)
set(libraries pretrained_hub)
if(PRETRAINED_BUILD_TORCH)
  list(APPEND libraries pretrained pretrained_verbs)
  install(TARGETS pretrained_worker DESTINATION ${CMAKE_INSTALL_LIBEXECDIR}/pretrained)
  set_target_properties(pretrained_worker PROPERTIES
    INSTALL_RPATH "$ORIGIN/../../${CMAKE_INSTALL_LIBDIR};${PRETRAINED_TORCH_DIR}/lib")
endif()
set_target_properties(${libraries} PROPERTIES INSTALL_RPATH "$ORIGIN;${PRETRAINED_TORCH_DIR}/lib")
install(TARGETS ${libraries} LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(TARGETS pretrained_command)
set_target_properties(pretrained_command PROPERTIES INSTALL_RPATH "$ORIGIN/../${CMAKE_INSTALL_LIBDIR}")
if(PRETRAINED_BUILD_SERVER)
  install(TARGETS pretrained_hub_server)
  set_target_properties(pretrained_hub_server PROPERTIES INSTALL_RPATH "$ORIGIN/../${CMAKE_INSTALL_LIBDIR}")
endif()
install(DIRECTORY pretrained/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/pretrained FILES_MATCHING PATTERN "*.h")
configure_package_config_file(cmake/pretrainedConfig.cmake.in ${PROJECT_BINARY_DIR}/pretrainedConfig.cmake
  INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/pretrained PATH_VARS CMAKE_INSTALL_INCLUDEDIR CMAKE_INSTALL_LIBDIR)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/pretrainedConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/pretrainedConfig.cmake ${PROJECT_BINARY_DIR}/pretrainedConfigVersion.cmake
  cmake/LibTorch.cmake DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/pretrained)
