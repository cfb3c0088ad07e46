#pragma once
// The version of the library, and the level of the API that shared model code is written against: a
// promise that code of an older level compiles and loads under later ones.

namespace pretrained {
inline constexpr const char* kVersion = "0.1.0";
inline constexpr int kApiLevel = 1;
}  // namespace pretrained
