#pragma once
// Secrets and how they lie in the database. Private to this room.

#include <string>
#include <string_view>

#include "server/storage/database.h"

namespace pretrained::server {

inline constexpr std::string_view kAlphanumerics =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

// `length` letters of `alphabet`, each as likely, of the operating system's generator.
std::string random_letters(std::string_view alphabet, size_t length);
// prefix + `length` alphanumerics?
bool is_secret(std::string_view text, std::string_view prefix, size_t length);
// SHA-256. Rows are found by it: how much of a guess is right says nothing about the secret, so the
// comparison inside the index needs no constant time.
Bytes hash_of(std::string_view secret);

}  // namespace pretrained::server
