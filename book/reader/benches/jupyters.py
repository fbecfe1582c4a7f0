"""A shell for each WebSocket, by the terminals that Jupyter has: terminado, on tornado."""

import asyncio

import terminado
import tornado.httpserver
import tornado.netutil
import tornado.web


async def main():
    terminals = terminado.UniqueTermManager(shell_command=["/bin/sh"])
    arguments = {"term_manager": terminals}
    app = tornado.web.Application([("/terminal", terminado.TermSocket, arguments)])
    sockets = tornado.netutil.bind_sockets(0, "127.0.0.1")
    tornado.httpserver.HTTPServer(app).add_sockets(sockets)
    print(sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()


asyncio.run(main())
