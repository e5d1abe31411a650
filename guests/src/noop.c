/* noop: reads nothing, writes nothing, exits 0. What is left when it runs is the cost of running a task. */
int main(void) { return 0; }
