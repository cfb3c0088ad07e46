#pragma once
#include <vector>
%:include "own.h"
#if __has_include(<optional>)
#embed "data" limit(3)
#endif
_Pragma("GCC diagnostic push")
auto a = R"x(
#include <unistd.h>)x"; int m = 1'000; // \
 x
