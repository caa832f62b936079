#include <tern.h>
