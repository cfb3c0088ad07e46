#pragma once
// Everything the library throws on purpose derives from `pretrained::Error`. A message is one line
// that names the file, field or tensor, what was found, what was expected and, where there is one,
// the way out. The kinds are what a caller can act on; the command maps them to exit codes
// (`exit_code`).

#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "pretrained/base/export.h"

namespace pretrained {

class PRETRAINED_API Error : public std::runtime_error {
 public:
  explicit Error(const std::string& message) : std::runtime_error(message) {}
  // 1 failed · 2 usage · 3 not found · 4 not permitted or untrusted · 5 bad data · 6 network
  virtual int exit_code() const { return 1; }
};

// A wrong call: an unknown name, option or input, or a tensor of the wrong kind.
class PRETRAINED_API ArgumentError : public Error {
 public:
  using Error::Error;
  int exit_code() const override { return 2; }
};

// A file, folder, model or class that is not there.
class PRETRAINED_API NotFoundError : public Error {
 public:
  using Error::Error;
  int exit_code() const override { return 3; }
};

// The operating system refused: permissions, disk full, read or write failed.
class PRETRAINED_API IoError : public Error {
 public:
  using Error::Error;
};

// Bytes that break the rules of their format: JSON, safetensors, pickle, images, references.
class PRETRAINED_API FormatError : public Error {
 public:
  using Error::Error;
  int exit_code() const override { return 5; }
};

// A config whose fields have wrong types or values. Authors throw it from `validate()`.
class PRETRAINED_API ConfigError : public FormatError {
 public:
  using FormatError::FormatError;
};

// Weights that do not fit the model; the three lists hold the full names.
class PRETRAINED_API WeightsError : public FormatError {
 public:
  WeightsError(const std::string& message, std::vector<std::string> missing,
               std::vector<std::string> unexpected, std::vector<std::string> mismatched)
      : FormatError(message),
        missing(std::move(missing)),
        unexpected(std::move(unexpected)),
        mismatched(std::move(mismatched)) {}
  std::vector<std::string> missing, unexpected, mismatched;
};

// The repository holds code that is not trusted: never before, or it has changed since.
class PRETRAINED_API UntrustedCode : public Error {
 public:
  UntrustedCode(const std::string& message, std::vector<std::string> files, std::string digest = "",
                std::string diff = "")
      : Error(message),
        files(std::move(files)),
        digest(std::move(digest)),
        diff(std::move(diff)) {}
  int exit_code() const override { return 4; }
  std::vector<std::string> files;
  std::string digest;  // SHA-256 of the code
  std::string diff;    // from what was trusted; "" where nothing was
};

// Model code that did not compile or link, or no compiler to do it with. `log` is the compiler's
// whole output.
class PRETRAINED_API CompileError : public Error {
 public:
  CompileError(const std::string& message, std::string command, std::string log)
      : Error(message), command(std::move(command)), log(std::move(log)) {}
  std::string command, log;
};

// Text from a file made safe for a terminal and for one line: control characters, escape sequences
// and bidirectional overrides become \xNN or \u{NNNN}; invalid UTF-8 becomes \xNN; longer than
// `limit` bytes is cut with "…".
PRETRAINED_API std::string printable(const std::string& text, size_t limit = 200);

// How many bytes at the start of the text are UTF-8: all of them where the text is.
PRETRAINED_API size_t utf8_length(std::string_view text);

}  // namespace pretrained
