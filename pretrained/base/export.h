#pragma once
// Visibility: everything is hidden in our shared libraries but what is marked PRETRAINED_API.
#define PRETRAINED_API __attribute__((visibility("default")))
