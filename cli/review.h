#pragma once
// Code that would run, shown to a person who then decides.

#include <string>

#include "pretrained/code/trust.h"

namespace pretrained::cli {

// On stderr: repository, commit, author, files, hints, and what changed since it was trusted.
void print_review(const CodeReview& review);

// Whether there is somebody to ask: standard input and error are a terminal.
bool can_ask();
// Waits for a line on the terminal; only "y" or "yes" is yes, the end of the input is no. What was
// typed before the question is no answer to it.
bool ask(const std::string& question);

}  // namespace pretrained::cli
