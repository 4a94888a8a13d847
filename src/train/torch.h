// The only door to libtorch: every file that needs it includes this, and it is precompiled (12 s a file otherwise).
#pragma once

#include <torch/torch.h>
